#include "bench/wrapped/work.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <vector>

void run_loop(Loops* loops, int which, int repeat) {
  for (int r = 0; r < repeat; ++r) {
    switch (which) {
      case 0:
        for (int i = 0; i < kWords; ++i) loops->longs[i] = i + r;
        break;
      case 1:
        for (int i = 0; i < kWords; ++i) loops->ints[i] = i ^ r;
        break;
      case 2:
        for (int i = 0; i < kWords; ++i) loops->bytes[i] = static_cast<char>(i + r);
        break;
      case 3:
        for (int i = 0; i < kWords; ++i) loops->doubles[i] = i * 0.5 + r;
        break;
      case 4:
        if (loops->scattered[0] == nullptr) {
          for (int i = 0; i < kWords; ++i) loops->scattered[i] = &loops->longs[i * 389 % kWords];
        }
        for (int i = 0; i < kWords; ++i) *loops->scattered[i] = i + r;
        break;
      case 5:
        for (Pair& p : loops->fields) {
          p.a = r;
          p.b = r + 1;
          p.c = r + 2;
          p.d = r + 3;
        }
        break;
      default:
        std::memset(loops->longs, r, sizeof loops->longs);
    }
    __asm__ volatile("" : : "r"(loops) : "memory");
  }
}

// A shop: parse a request, look for what fits it best among the items, book it, and write the answer.
struct Item {
  std::string title;
  std::vector<double> features;
  int stock = 1 << 30;
  long sold = 0;
};
struct Mix {
  std::mutex mutex;
  std::map<std::string, Item> items;
  std::map<int, long> spent;
  std::list<std::string> journal;
};

Mix* new_mix() {
  auto* mix = new Mix();
  for (int i = 0; i < 500; ++i) {
    Item& item = mix->items["item-" + std::to_string(i)];
    item.title = "The book of number " + std::to_string(i);
    for (int k = 0; k < 32; ++k) item.features.push_back(std::sin(i * 32 + k));
  }
  return mix;
}

void run_request(Mix* mix, int number) {
  char request[128];
  std::snprintf(request, sizeof request, "user=%d item=item-%d count=%d", number % 1000, number * 7 % 500,
                number % 3 + 1);
  std::map<std::string, std::string> fields;
  for (char* at = request; *at != '\0';) {
    char* const equals = std::strchr(at, '=');
    char* const end = strchrnul(equals, ' ');
    fields[std::string(at, equals)] = std::string(equals + 1, end);
    at = *end == ' ' ? end + 1 : end;
  }
  int const user = std::atoi(fields["user"].c_str());
  int const count = std::atoi(fields["count"].c_str());
  std::lock_guard const lock(mix->mutex);
  Item& wanted = mix->items.at(fields["item"]);
  Item* best = nullptr;
  double best_score = -1e9;
  for (auto& [name, item] : mix->items) {
    double score = 0;
    for (size_t k = 0; k < item.features.size(); ++k) score += item.features[k] * wanted.features[k];
    if (&item != &wanted && score > best_score) {
      best_score = score;
      best = &item;
    }
  }
  wanted.stock -= count;
  wanted.sold += count;
  mix->spent[user] += count;
  mix->journal.push_back("user " + fields["user"] + " bought " + wanted.title + ", and may like " + best->title);
  if (mix->journal.size() > 100) mix->journal.pop_front();
}
