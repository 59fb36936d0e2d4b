// What one store of a program is turned into: the text of an asm statement that goes before it.
//
// The fast path asks whether the tags of the words say that the innermost scope has logged these bytes already
// (srs_owned_ of <srs/srs.h>); if not, srs_log_ (log_stub.S) logs what is there. The statement takes the address in
// rdi, spoils rax, rcx, rdx and the flags, and keeps every other register, also the vector registers.
#ifndef SRS_COMPILER_STORES_HPP
#define SRS_COMPILER_STORES_HPP

#include <string>

namespace srs::compiler {

struct Store {
  unsigned long size;   // bytes, at least 1
  unsigned long align;  // of the address, in bytes: a power of two
  unsigned long at;     // the address modulo `align`
};

// A store this large is looked at word by word in line; beyond it, by the stub.
constexpr unsigned long kMostInLine = 64;

inline std::string check_text(Store const& store) {
  std::string const tag_address =
      "movq srs_process_@GOTPCREL(%%rip), %%rax\n\t"
      "movq 8(%%rax), %%rdx\n\t"
      "andq %%rdi, %%rdx\n\t"
      "addq (%%rax), %%rdx\n\t"
      "movq srs_thread_@gottpoff(%%rip), %%rax\n\t";
  std::string const slow = "movl $" + std::to_string(store.size) + ", %%eax\n\tcall srs_log_\n1:";
  // Owner bits of a tag, with the mask's bits that must be there: fits a sign-extended 32-bit operand.
  auto const test = [](unsigned long mask) { return "$" + std::to_string(-1048576L | static_cast<long>(mask)); };
  bool const word_known = store.align >= 8;
  unsigned long const first = store.at & 7;

  if (word_known && first + store.size <= 8) {
    unsigned long const mask = ((1UL << store.size) - 1) << first;
    return tag_address + "movq (%%rdx), %%rdx\n\txorq %%fs:(%%rax), %%rdx\n\ttestq " + test(mask) +
           ", %%rdx\n\tje 1f\n\t" + slow;
  }
  if (store.size <= 4 && store.align >= store.size && store.at % store.size == 0) {  // within one word
    return tag_address + "movq (%%rdx), %%rdx\n\txorq %%fs:(%%rax), %%rdx\n\ttestq " + test(0) +
           ", %%rdx\n\tjne 2f\n\tmovl %%edi, %%ecx\n\tandl $7, %%ecx\n\tshrl %%cl, %%edx\n\ttestb $" +
           std::to_string((1U << store.size) - 1) + ", %%dl\n\tje 1f\n2:\t" + slow;
  }
  // Several words. Where the place in the first is not known, each must be owned as a whole: the stub looks closer.
  unsigned long const words =
      word_known ? (first + store.size + 7) / 8 : (8 - store.align + store.at % store.align + store.size + 7) / 8;
  std::string text = tag_address + "movq %%fs:(%%rax), %%rax\n\t";
  for (unsigned long i = 0; i < words; ++i) {
    unsigned long mask = 0xff;
    if (word_known && i == 0) mask &= 0xffUL << first;
    if (word_known && i + 1 == words) mask &= 0xffUL >> (words * 8 - first - store.size);
    text += "movq " + std::to_string(8 * i) + "(%%rdx), %%rcx\n\txorq %%rax, %%rcx\n\ttestq " + test(mask) +
            ", %%rcx\n\t" + (i + 1 < words ? "jne 2f\n\t" : "je 1f\n2:\t");
  }
  return text + slow;
}

}  // namespace srs::compiler

#endif
