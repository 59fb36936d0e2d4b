#include "tests/faults/wrapped/shop.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

Shop shop;

namespace {

[[noreturn]] void crash(std::string const& how) {
  if (how == "null") *static_cast<int volatile*>(nullptr) = 1;
  if (how == "wild") std::memset(reinterpret_cast<void*>(0x7777777777ULL), 1, 100);
  if (how == "divide") {
    int volatile zero = 0;
    zero = 1 / zero;
  }
  std::abort();
}

void buy(Session& session, int user, std::string const& name, int count, std::string const& mode) {
  std::lock_guard const lock(shop.mutex);
  Item& item = shop.items[name];
  item.stock -= count;
  auto order = std::make_shared<Order>(Order{user, name, count});
  shop.by_user[user].push_back(order);
  if (mode == "null") crash(mode);
  item.buyers.push_back(user);
  if (item.buyers.size() > 30) item.buyers.pop_front();
  item.last_note = "user " + std::to_string(user) + " bought " + std::to_string(count) + " of " + name;
  shop.notes.insert(item.last_note);
  if (shop.notes.size() > 40) shop.notes.erase(shop.notes.begin());
  if (mode == "wild") crash(mode);
  shop.recent.push_back(std::move(order));
  if (shop.recent.size() > 50) shop.recent.pop_front();
  shop.revenue += count;
  if (mode == "divide" || mode == "abort") crash(mode);
  session.reply = "OK " + std::to_string(item.stock);
}

}  // namespace

extern "C" int serve_one(Session* session) {
  ssize_t const n = read(session->fd, session->buffer, sizeof session->buffer - 1);
  if (n <= 0) return 0;
  session->buffer[n] = '\0';
  session->requests++;
  shop.served++;
  char item[32];
  char mode[32];
  int user = 0;
  int count = 0;
  if (sscanf(session->buffer, "%d %31s %d %31s", &user, item, &count, mode) != 4) {
    session->reply = "WHAT";
    return 1;
  }
  session->name.assign("user number ").append(std::to_string(user)).append(" of this shop");
  buy(*session, user, item, count, mode);
  return 1;
}
