// roster pointer|hole: the paper's recovery experiment (5.1.1). Eight users work on a roster of employees; user 3
// writes and then faults. The others read the values of before, and go on.
#include <cstddef>

#include "tests/faults/guests/guest.hpp"

namespace {

struct Employee {
  srs::shared<uint64_t> age, service, apartment, salary;
};
constexpr unsigned kEmployees = 5, kUsers = 8, kFaulty = 3, kRounds = 40;
constexpr uint64_t kSalary[kEmployees] = {7500, 9000, 12500, 11700, 10800};

// 1 if every employee is as at first.
bool as_at_first(Employee const* roster) {
  for (unsigned i = 0; i < kEmployees; ++i) {
    Employee const& e = roster[i];
    if (e.age != 24 + i || e.service != 2 + i || e.apartment != 1 + i || e.salary != kSalary[i]) return false;
  }
  return true;
}

void fault(std::string const& how) {
  if (how == "pointer") guest::bad_store();
  auto* const page =
      static_cast<int volatile*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0));
  *page = 1;
  munmap(const_cast<int*>(page), 4096);
  *page = 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const how = argv[1];
  auto* const roster = static_cast<Employee*>(srs_malloc(sizeof(Employee) * kEmployees));
  auto* const served = static_cast<srs::shared<uint64_t>*>(srs_calloc(kUsers, 8));
  for (unsigned i = 0; i < kEmployees; ++i) {
    roster[i].age = 24 + i;
    roster[i].service = 2 + i;
    roster[i].apartment = 1 + i;
    roster[i].salary = kSalary[i];
  }
  std::atomic<bool> writing{false}, gone{false};
  std::atomic<unsigned> at_work{0};
  std::vector<std::thread> users;
  for (unsigned user = 0; user < kUsers; ++user) {
    users.emplace_back([&, user] {
      for (unsigned round = 0; round < kRounds; ++round) {
        bool const faulty = user == kFaulty && round == kRounds / 2;
        if (round == 1) at_work += 1;
        // Whoever still gets its stack or its heap could be given the faulty user's hole.
        while (faulty && at_work < kUsers) sched_yield();
        if (user != kFaulty && round == kRounds / 2) {
          while (!gone) sched_yield();  // what follows is after the fault
        }
        auto const status = srs::request(
            [&] {
              if (faulty) {
                writing = true;
                for (unsigned i = 0; i < kEmployees; ++i) {
                  roster[i].salary = 1;
                  roster[i].service = 99;
                  roster[i].age = 0;
                }
                fault(how);
              }
              if (user != kFaulty && (round >= kRounds / 2 || !writing)) {
                // Before the faulty user's first store or after its abort: nothing else writes the roster.
                bool const first = as_at_first(roster);
                if (round >= kRounds / 2) CHECK(first);
              }
              served[user] += 1;
            },
            {.user = user});
        CHECK_EQ(status, faulty ? SRS_FAULTED : SRS_OK);
        if (faulty) {
          srs_fault_info const info = guest::last_fault();
          CHECK_EQ(info.kind, SRS_FAULT_STORE);
          CHECK_EQ(info.user, kFaulty);
          CHECK_EQ(info.signal, 11);
          CHECK(info.what[0] != 0);
          gone = true;
        }
      }
    });
  }
  for (auto& user : users) user.join();
  for (unsigned user = 0; user < kUsers; ++user) CHECK_EQ(served[user], user == kFaulty ? kRounds - 1 : kRounds);
  CHECK(as_at_first(roster));
  return guest::end();
}
