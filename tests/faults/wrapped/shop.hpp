// An ordinary shop, served over TCP by threads: nothing in it, and in server.cpp, knows of VMSRS.
#ifndef TESTS_FAULTS_WRAPPED_SHOP_HPP
#define TESTS_FAULTS_WRAPPED_SHOP_HPP

#include <atomic>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

struct Order {
  int user;
  std::string item;
  int count;
};

struct Item {
  int stock = 100000;
  std::list<int> buyers;
  std::string last_note;
};

struct Shop {
  std::mutex mutex;
  std::map<std::string, Item> items;
  std::unordered_map<int, std::vector<std::shared_ptr<Order>>> by_user;
  std::deque<std::shared_ptr<Order>> recent;  // the last 50
  std::set<std::string> notes;
  long revenue = 0;
  std::atomic<long> served{0};
};
extern Shop shop;

// One client's connection.
struct Session {
  int fd = -1;
  char buffer[512] = {};
  std::string name;
  int requests = 0;
  std::string reply;
};

// Reads one request from the connection and serves it. 1: session->reply holds the answer; 0: the client has gone.
extern "C" int serve_one(Session* session);

#endif
