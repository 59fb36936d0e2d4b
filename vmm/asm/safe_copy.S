# vmm_safe_copy(rdi = to, rsi = from, rdx = n) -> rax = bytes not copied.
# A fault anywhere between _start and _end resumes at _end, where rcx holds what is left.
    .text
    .globl vmm_safe_copy, vmm_safe_copy_start, vmm_safe_copy_end
    .type vmm_safe_copy, @function
vmm_safe_copy:
    .cfi_startproc
    mov %rdx, %rcx
vmm_safe_copy_start:
    rep movsb
vmm_safe_copy_end:
    mov %rcx, %rax
    ret
    .cfi_endproc
    .size vmm_safe_copy, .-vmm_safe_copy
    .section .note.GNU-stack, "", @progbits
