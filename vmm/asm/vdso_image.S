/* The guest's vDSO, linked by the build (vmm/vdso/), as data of the monitor. */
    .section .rodata
    .balign 4096
    .globl vmm_vdso_start, vmm_vdso_end
vmm_vdso_start:
    .incbin VDSO_IMAGE
vmm_vdso_end:
    .section .note.GNU-stack, "", @progbits
