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
        movq    %fs:48(%rdx), %rcx      /* so does the block that it allocated or stored to last of its own */
        cmpq    %rcx, %fs:0(%rdx)
        jne     2f
        movq    %rdi, %rcx
        subq    %fs:32(%rdx), %rcx
        movq    %fs:40(%rdx), %rdx
        subq    %rcx, %rdx              /* the bytes left in it, if the address is below its end */
        jbe     2f
        cmpq    %rax, %rdx
        jae     1f
2:      cmpq    $256, %rax
        jae     5f
3:      pushq   %rbp
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
        .cfi_def_cfa %rsp, 8
        /* Whole words, many of them: are all their tags the scope's, with all bytes? Outside the monitor and in strict mode
         * there are no tags to read (tag_mask is 0). */
5:      movl    %edi, %ecx
        orl     %eax, %ecx
        testl   $7, %ecx
        jnz     3b
        movq    srs_process_@GOTPCREL(%rip), %rdx
        movq    8(%rdx), %rcx
        testq   %rcx, %rcx
        jz      3b
        pushq   %rax
        .cfi_adjust_cfa_offset 8
        pushq   %rcx
        .cfi_adjust_cfa_offset 8
        andq    %rdi, %rcx
        addq    %rcx, %rax
        cmpq    (%rsp), %rax            /* beyond the window's end the tags begin anew */
        ja      7f
        addq    (%rdx), %rcx            /* the first tag */
        movq    8(%rsp), %rdx
        leaq    -32(%rcx,%rdx), %rdx    /* the last four */
        subq    $64, %rsp
        .cfi_adjust_cfa_offset 64
        movdqu  %xmm0, (%rsp)
        movdqu  %xmm1, 16(%rsp)
        movdqu  %xmm2, 32(%rsp)
        movdqu  %xmm3, 48(%rsp)
        movq    srs_thread_@gottpoff(%rip), %rax
        movq    %fs:(%rax), %xmm0
        punpcklqdq %xmm0, %xmm0
        movdqu  (%rdx), %xmm3
        pxor    %xmm0, %xmm3
        movdqu  16(%rdx), %xmm1
        pxor    %xmm0, %xmm1
        por     %xmm1, %xmm3
        .p2align 4
6:      movdqu  (%rcx), %xmm1
        movdqu  16(%rcx), %xmm2
        pxor    %xmm0, %xmm1
        pxor    %xmm0, %xmm2
        por     %xmm1, %xmm3
        por     %xmm2, %xmm3
        movdqu  32(%rcx), %xmm1
        movdqu  48(%rcx), %xmm2
        pxor    %xmm0, %xmm1
        pxor    %xmm0, %xmm2
        por     %xmm1, %xmm3
        por     %xmm2, %xmm3
        addq    $64, %rcx
        leaq    32(%rcx), %rax
        cmpq    %rdx, %rax
        jbe     6b
        cmpq    %rdx, %rcx
        jae     9f
        movdqu  (%rcx), %xmm1           /* four words, which the last four may overlap */
        movdqu  16(%rcx), %xmm2
        pxor    %xmm0, %xmm1
        pxor    %xmm0, %xmm2
        por     %xmm1, %xmm3
        por     %xmm2, %xmm3
9:      movq    %xmm3, %rax
        psrldq  $8, %xmm3
        movq    %xmm3, %rcx
        orq     %rcx, %rax
        movdqu  (%rsp), %xmm0
        movdqu  16(%rsp), %xmm1
        movdqu  32(%rsp), %xmm2
        movdqu  48(%rsp), %xmm3
        addq    $64, %rsp
        .cfi_adjust_cfa_offset -64
        testq   $-1048321, %rax         /* the owner's bits and the mask's */
        jnz     7f
        addq    $16, %rsp
        .cfi_adjust_cfa_offset -16
        ret
        .cfi_adjust_cfa_offset 16
7:      popq    %rcx
        .cfi_adjust_cfa_offset -8
        popq    %rax
        .cfi_adjust_cfa_offset -8
        jmp     3b
        .cfi_endproc
        .size   srs_log_, .-srs_log_

        .section .note.GNU-stack, "", @progbits
