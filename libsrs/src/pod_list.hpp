// A growing array of plain values on pages of its own: it may be left half-way by a landing at any instruction, and
// then still holds what its size says.
#ifndef SRS_SRC_POD_LIST_HPP
#define SRS_SRC_POD_LIST_HPP

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstring>

namespace srs::lib {

template <class T>
class PodList {
 public:
  // False when there is no memory.
  bool push(T const& value) {
    if (size_ == capacity_ && !grow()) return false;
    items_[size_] = value;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    size_ = size_ + 1;
    return true;
  }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return items_[i]; }
  void shrink(size_t size) { size_ = size; }
  // Removes one item; the order of the others is not kept.
  void remove(size_t i) {
    items_[i] = items_[size_ - 1];
    size_ = size_ - 1;
  }

 private:
  bool grow() {
    size_t const bytes = bytes_ == 0 ? 4096 : bytes_ * 2;
    void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    T* const old = items_;
    size_t const old_bytes = bytes_;
    if (old != nullptr) std::memcpy(p, old, size_ * sizeof(T));
    items_ = static_cast<T*>(p);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    capacity_ = bytes / sizeof(T);
    bytes_ = bytes;
    if (old != nullptr) munmap(old, old_bytes);
    return true;
  }

  T* items_;
  size_t size_;
  size_t capacity_;
  size_t bytes_;
};

}  // namespace srs::lib

#endif
