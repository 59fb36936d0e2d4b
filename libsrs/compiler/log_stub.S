/* srs_log_: what an instrumented store calls when a tag does not say that its bytes are logged.
 *
 * rdi: the address; rax: how many bytes. Spoils rax, rcx, rdx and the flags. Every other register is kept: what it calls
 * (libsrs's instrument.cpp) is compiled without vector registers.
 */
        .text
        .globl  srs_log_
        .hidden srs_log_
        .type   srs_log_, @function
        .p2align 4
srs_log_:
        .cfi_startproc
        movq    srs_thread_@gottpoff(%rip), %rdx
        movq    %rdi, %rcx
        subq    %fs:16(%rdx), %rcx      /* the scope's own stack goes with the scope */
        cmpq    %fs:24(%rdx), %rcx
        jb      1f
        pushq   %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        pushq   %rdi
        pushq   %rsi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        andq    $-16, %rsp
        movq    %rax, %rsi
        cld
        call    srs_will_store_@PLT
        movq    -48(%rbp), %r11
        movq    -40(%rbp), %r10
        movq    -32(%rbp), %r9
        movq    -24(%rbp), %r8
        movq    -16(%rbp), %rsi
        movq    -8(%rbp), %rdi
        movq    %rbp, %rsp
        popq    %rbp
        .cfi_def_cfa %rsp, 8
1:      ret
        .cfi_endproc
        .size   srs_log_, .-srs_log_

        .section .note.GNU-stack, "", @progbits
