/* The switch to a scope's stack, the way back, and where an aborted scope lands.
 *
 * struct Run (request.hpp):      0 fn, 8 arg, 16 top of the new stack, 24 struct srs_landing*, 32 address of slot->critical
 * struct srs_landing (abi.h):    0 rip, 8 rsp, 16 rbx, 24 rbp, 32 r12, 40 r13, 48 r14, 56 r15
 */
        .text

        .macro  load_landing    /* from the record at rdi: all of it but rip */
        movq    8(%rdi), %rsp
        movq    16(%rdi), %rbx
        movq    24(%rdi), %rbp
        movq    32(%rdi), %r12
        movq    40(%rdi), %r13
        movq    48(%rdi), %r14
        movq    56(%rdi), %r15
        .endm

/* int srs_run_scope_(struct Run*): 0 when fn returned; 1 when the scope landed. slot->critical is raised while the
 * thread is between the two stacks, so that an abort from outside never finds the caller's frames on top. */
        .globl  srs_run_scope_
        .hidden srs_run_scope_
        .type   srs_run_scope_, @function
        .p2align 4
srs_run_scope_:
        .cfi_startproc
        movq    24(%rdi), %rax
        movq    (%rsp), %rcx
        movq    %rcx, 0(%rax)
        leaq    8(%rsp), %rcx
        movq    %rcx, 8(%rax)
        movq    %rbx, 16(%rax)
        movq    %rbp, 24(%rax)
        movq    %r12, 32(%rax)
        movq    %r13, 40(%rax)
        movq    %r14, 48(%rax)
        movq    %r15, 56(%rax)
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        movq    %rdi, %rbx
        call    srs_scope_opened_
        movq    %rsp, %r12
        .cfi_remember_state
        .cfi_undefined %rip     /* an unwinder of the scope's stack stops here */
        movq    16(%rbx), %rsp
        movq    32(%rbx), %rax
        decq    (%rax)          /* srs_scope_opened_ left it raised: from here on a deadline may strike */
        movq    8(%rbx), %rdi
        call    *0(%rbx)
        movq    32(%rbx), %rax
        incq    (%rax)          /* srs_request lowers it when the scope has committed */
        movq    %r12, %rsp
        .cfi_restore_state
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        xorl    %eax, %eax
        ret
        .cfi_endproc
        .size   srs_run_scope_, .-srs_run_scope_

/* Entered by the monitor (or by srs_land_): rdi = depth index of the aborted scope, rsp and the callee-saved
 * registers from its landing record, as if srs_run_scope_ had just returned. */
        .globl  srs_landing_pad_
        .hidden srs_landing_pad_
        .type   srs_landing_pad_, @function
        .p2align 4
srs_landing_pad_:
        .cfi_startproc
        .cfi_undefined %rip
        cld
        call    srs_landed_     /* returns where srs_request goes on */
        movq    %rax, %rcx
        movl    $1, %eax
        jmp     *%rcx
        .cfi_endproc
        .size   srs_landing_pad_, .-srs_landing_pad_

/* void srs_land_(struct srs_landing const*, uint64_t index), never returns: to the landing pad by ourselves. */
        .globl  srs_land_
        .hidden srs_land_
        .type   srs_land_, @function
        .p2align 4
srs_land_:
        .cfi_startproc
        .cfi_undefined %rip
        load_landing
        movq    %rsi, %rdi
        jmp     srs_landing_pad_
        .cfi_endproc
        .size   srs_land_, .-srs_land_

/* void srs_leave_(struct srs_landing const*), never returns: to where srs_run_scope_ returns to, as if fn had returned. */
        .globl  srs_leave_
        .hidden srs_leave_
        .type   srs_leave_, @function
        .p2align 4
srs_leave_:
        .cfi_startproc
        .cfi_undefined %rip
        load_landing
        xorl    %eax, %eax
        jmp     *0(%rdi)
        .cfi_endproc
        .size   srs_leave_, .-srs_leave_

/* void srs_unwind_from_(struct srs_landing const*, void* thread), never returns: srs_unwind_here_(thread) as if the
 * code that called srs_run_scope_ had called it: the next scope's frames are then the ones to unwind. */
        .globl  srs_unwind_from_
        .hidden srs_unwind_from_
        .type   srs_unwind_from_, @function
        .p2align 4
srs_unwind_from_:
        .cfi_startproc
        .cfi_undefined %rip
        load_landing
        pushq   0(%rdi)
        movq    %rsi, %rdi
        jmp     srs_unwind_here_
        .cfi_endproc
        .size   srs_unwind_from_, .-srs_unwind_from_

        .section .note.GNU-stack, "", @progbits
