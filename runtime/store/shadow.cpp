#include "runtime/store/shadow.hpp"

#include <algorithm>
#include <cstring>

namespace vmsrs::store {
namespace {

constexpr uint64_t kPageWords = 512;
// A tag that no word has: the copy says nothing until it is renewed.
constexpr uint64_t kNoTag = ~uint64_t{0};

}  // namespace

Shadow::Part* Shadow::part_of(uint64_t address) {
  for (Part& part : parts_) {
    if (address - part.guest < part.words * 8) return &part;
  }
  return nullptr;
}

bool Shadow::add(Memory const& memory, uint64_t address, uint64_t size,
                 std::function<uint64_t*(uint64_t)> const& tag_of) {
  uint64_t const begin = (address + 7) & ~uint64_t{7}, end = (address + size) & ~uint64_t{7};
  if (address + size < address || size > kShadowMost - bytes_) return false;
  if (begin >= end) return true;
  Part part;
  part.guest = begin;
  part.words = (end - begin) / 8;
  part.memory = static_cast<uint64_t*>(memory.at(begin, end - begin));
  part.tags = tag_of(begin);
  if (part.memory == nullptr || part.tags == nullptr || tag_of(end - 8) != part.tags + (part.words - 1)) return false;
  part.value.resize(part.words);
  part.tag.assign(part.words, kNoTag);
  bytes_ += end - begin;
  parts_.push_back(std::move(part));
  for (uint64_t at = begin; at < end; at += 8) touched_.push_back(at);
  return true;
}

void Shadow::renew(std::function<Settled(uint64_t, uint64_t)> const& settled) {
  if (touched_.empty()) return;
  std::sort(touched_.begin(), touched_.end());
  touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
  std::erase_if(touched_, [&](uint64_t address) {
    Part* const part = part_of(address);
    uint64_t const i = (address - part->guest) / 8;
    uint64_t const tag = load(&part->tags[i]);
    Settled const how = settled(address, tag);
    if (how == Settled::later) return false;
    if (how == Settled::no) {
      part->tag[i] = kNoTag;
      return true;
    }
    uint64_t const value = load(&part->memory[i]);
    if (load(&part->tags[i]) != tag) return false;  // a store has begun meanwhile: its record comes
    part->value[i] = value;
    part->tag[i] = tag;
    return true;
  });
}

Wild Shadow::check(bool put_back) {
  Wild wild;
  for (Part& part : parts_) {
    for (uint64_t from = 0; from < part.words; from += kPageWords) {
      uint64_t const to = std::min(part.words, from + kPageWords);
      if (std::memcmp(&part.memory[from], &part.value[from], (to - from) * 8) == 0) continue;
      for (uint64_t i = from; i < to; ++i) {
        uint64_t seen = load(&part.memory[i]);
        // In this order: who stores by the log takes the tag first.
        if (seen == part.value[i] || load(&part.tags[i]) != part.tag[i]) continue;
        if (wild.addresses.size() < kWildTold) wild.addresses.push_back(part.guest + i * 8);
        if (put_back && swap(&part.memory[i], seen, part.value[i])) {
          ++wild.undone;
        } else {
          ++wild.left;
        }
      }
    }
  }
  return wild;
}

}  // namespace vmsrs::store
