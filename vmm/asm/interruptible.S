# int64_t vmm_interruptible(bool const* kicked, long nr, a0, a1, a2, a3, a4, a5)
#
# A host system call that a kick cannot miss: the check of *kicked and the entry into the kernel are one restartable
# sequence. The kick signal's handler, when it finds rip in [start, end), moves it to `kicked`; a kick that comes before
# start is seen by the check, one that comes inside the kernel ends the call with EINTR.
    .text
    .globl vmm_interruptible, vmm_interruptible_start, vmm_interruptible_end, vmm_interruptible_kicked
    .type vmm_interruptible, @function
vmm_interruptible:
    .cfi_startproc
    mov %rdi, %r11
    mov %rsi, %rax
    mov %rdx, %rdi
    mov %rcx, %rsi
    mov %r8, %rdx
    mov %r9, %r10
    mov 8(%rsp), %r8
    mov 16(%rsp), %r9
vmm_interruptible_start:
    cmpb $0, (%r11)
    jne vmm_interruptible_kicked
    syscall
vmm_interruptible_end:
    ret
vmm_interruptible_kicked:
    mov $-4, %rax
    ret
    .cfi_endproc
    .size vmm_interruptible, .-vmm_interruptible
    .section .note.GNU-stack, "", @progbits
