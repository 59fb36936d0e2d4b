/* Layout of a mailbox and of its vCPU's two system-call stubs: what the stubs (vmm/asm/syscall_stub.S) and the monitor
   share. Bytes. Stubs and mailboxes are two arrays with the same stride, so that each stub finds its own mailbox at a
   fixed distance from itself. */
#ifndef VMM_MAILBOX_LAYOUT_H
#define VMM_MAILBOX_LAYOUT_H

#define MB_STRIDE 1024
#define MB_MAX_VCPUS 1024
#define MB_DISTANCE (MB_STRIDE * MB_MAX_VCPUS) /* from a vCPU's stubs to its mailbox */

/* Mailbox. Line 0 and 1: the guest writes, the monitor reads. */
#define MB_NR 0
#define MB_A0 8
#define MB_A1 16
#define MB_A2 24
#define MB_A3 32
#define MB_A4 40
#define MB_A5 48
#define MB_CHECK 56 /* of the eight words above and of `posted` before this call */
#define MB_POSTED 64
#define MB_SITE 72 /* the address behind the call */
/* Line 2: the monitor writes, the guest reads. */
#define MB_DONE 128
#define MB_RESULT 136
#define MB_RESULT_CHECK 144 /* result ^ done ^ MB_SEAL */
/* Line 3: the guest alone. */
#define MB_SPINS 192
/* Line 4: the monitor writes, rarely. */
#define MB_ENABLED 256    /* 32 bits: whether calls are to be posted at all */
#define MB_SPIN_LIMIT 260 /* 32 bits: rounds until the guest leaves to wait outside */
/* Line 5: the guest writes; the monitor reads it where a layer above asks for the caller's registers. */
#define MB_RSP 320
#define MB_RBX 328
#define MB_RBP 336
#define MB_R12 344
#define MB_R13 352
#define MB_R14 360
#define MB_R15 368

#define MB_SEAL 0x5be1c0de /* a positive number of 31 bits */

/* A vCPU's stubs: the one that the syscall instruction enters, the bit map of the calls that may be posted (system
   calls 0 to 511, hypercalls from 512), and the one that patched call sites jump to (vmm/call_sites.hpp). */
#define STUB_TABLE 400
#define STUB_CALLS 768
#define STUB_HYPERCALLS 512 /* their first bit */
#define STUB_DIRECT 512     /* where the second stub begins */

#endif
