/* The addresses that MariaDB gets in place of a UDF's own: MYSQL_SHIM_THUNKS entries, each of which calls
 * mysql_shim_call_ with the six register arguments it was called with and its own number as a seventh. A UDF's result
 * is in rax or in xmm0, according to its type: both are passed through.
 *
 * And dlsym, in front of the C library's: what is not a UDF's goes to the real one by a jump, since that looks at who
 * called it. */
#include "examples/mysql-shim/thunks.h"

        .text
        .globl  mysql_shim_thunks_
        .hidden mysql_shim_thunks_
        .type   mysql_shim_thunks_, @function
        .p2align 4
mysql_shim_thunks_:
        .cfi_startproc
        .set    number, 0
        .rept   MYSQL_SHIM_THUNKS
        .p2align 4
        pushq   $number
        .cfi_def_cfa_offset 16
        jmp     mysql_shim_pass_
        .cfi_def_cfa_offset 8
        .set    number, number + 1
        .endr
        .cfi_endproc
        .size   mysql_shim_thunks_, .-mysql_shim_thunks_

        .type   mysql_shim_pass_, @function
mysql_shim_pass_:
        .cfi_startproc
        .cfi_def_cfa_offset 16
        call    mysql_shim_call_
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
        .size   mysql_shim_pass_, .-mysql_shim_pass_

/* The two arguments of dlsym and dlopen, across a call; the stack is aligned for it. */
        .macro  save_arguments
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        .endm
        .macro  restore_arguments
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        .endm

        .globl  dlsym
        .type   dlsym, @function
        .p2align 4
dlsym:
        .cfi_startproc
        save_arguments
        call    mysql_shim_find_        /* the thunk of a UDF, or null */
        restore_arguments
        testq   %rax, %rax
        jz      1f
        ret
1:      jmp     *mysql_shim_real_dlsym_(%rip)
        .cfi_endproc
        .size   dlsym, .-dlsym

        .globl  dlopen
        .type   dlopen, @function
        .p2align 4
dlopen:
        .cfi_startproc
        save_arguments
        movq    24(%rsp), %rdx          /* who called */
        call    mysql_shim_open_        /* the handle of a library that MariaDB itself wants, or null */
        restore_arguments
        testq   %rax, %rax
        jz      1f
        ret
1:      jmp     *mysql_shim_real_dlopen_(%rip)
        .cfi_endproc
        .size   dlopen, .-dlopen

        .section .note.GNU-stack, "", @progbits
