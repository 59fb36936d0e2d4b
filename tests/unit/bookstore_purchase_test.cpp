// links: bookstore_shop srs_static
// The shop's data without a server: what a purchase does to the catalogue and the ledger, and what
// is left to settle when it stopped half-way and nobody undid its first section.
#include <gtest/gtest.h>

#include <thread>

#include "examples/bookstore/purchase.hpp"

namespace {

using namespace bookstore;

class Shop : public testing::Test {
 protected:
  void expect_row(std::uint64_t book, std::int64_t stock, std::int64_t reserved, std::int64_t sold) {
    Row const row = catalogue.row(book);
    EXPECT_EQ(row.stock, stock);
    EXPECT_EQ(row.reserved, reserved);
    EXPECT_EQ(row.sold, sold);
    EXPECT_EQ(row.revenue, sold * row.price);
    EXPECT_EQ(row.digest, digest_of(row));
  }

  Catalogue catalogue{3, 10, 4};
  Ledger ledger;
  Fault const none{};
};

TEST_F(Shop, APurchaseChangesTheCatalogueAndTheLedger) {
  std::uint64_t const version = catalogue.row(1).version;
  Receipt const receipt = buy(catalogue, ledger, {"a", 7, 1, 3}, 1, none);
  ASSERT_EQ(receipt.outcome, Outcome::bought);
  expect_row(1, 7, 0, 3);
  EXPECT_GT(catalogue.row(1).version, version);
  EXPECT_EQ(receipt.order.number, 1u);
  EXPECT_EQ(receipt.order.total, 3 * catalogue.row(1).price);
  EXPECT_EQ(receipt.order.digest, digest_of(receipt.order));
  EXPECT_EQ(ledger.find("a"), receipt.order);
  EXPECT_EQ(ledger.find("b"), std::nullopt);
}

TEST_F(Shop, ARequestIdBuysOnce) {
  Receipt const first = buy(catalogue, ledger, {"a", 7, 1, 3}, 1, none);
  Receipt const again = buy(catalogue, ledger, {"a", 7, 1, 3}, 2, none);
  EXPECT_EQ(again.outcome, Outcome::bought);
  EXPECT_EQ(again.order, first.order);
  EXPECT_EQ(buy(catalogue, ledger, {"a", 7, 1, 2}, 3, none).outcome, Outcome::conflict);
  expect_row(1, 7, 0, 3);
}

TEST_F(Shop, SellsWhatThereIsAndNoMore) {
  EXPECT_EQ(buy(catalogue, ledger, {"a", 7, 1, 11}, 1, none).outcome, Outcome::sold_out);
  EXPECT_EQ(buy(catalogue, ledger, {"b", 7, 1, 10}, 2, none).outcome, Outcome::bought);
  EXPECT_EQ(buy(catalogue, ledger, {"c", 7, 1, 1}, 3, none).outcome, Outcome::sold_out);
  expect_row(1, 0, 0, 10);
}

TEST_F(Shop, IsBusyWhenAllReservationsAreTaken) {
  for (std::uint64_t purchase = 1; purchase <= 4; ++purchase)
    ASSERT_EQ(catalogue.reserve(0, purchase, 1, none), Catalogue::Taken::ok);
  EXPECT_EQ(buy(catalogue, ledger, {"a", 7, 0, 1}, 5, none).outcome, Outcome::busy);
  expect_row(0, 6, 4, 0);
}

TEST_F(Shop, SettlingGivesBackAReservationThatWasLeft) {
  ASSERT_EQ(catalogue.reserve(0, 9, 2, none), Catalogue::Taken::ok);
  expect_row(0, 8, 2, 0);
  EXPECT_EQ(settle(catalogue, ledger, {"a", 7, 0, 2}, 9), std::nullopt);
  expect_row(0, 10, 0, 0);
}

TEST_F(Shop, SettlingLeavesOthersReservationsAlone) {
  ASSERT_EQ(catalogue.reserve(0, 8, 2, none), Catalogue::Taken::ok);
  EXPECT_EQ(settle(catalogue, ledger, {"a", 7, 0, 2}, 9), std::nullopt);
  expect_row(0, 8, 2, 0);
}

TEST_F(Shop, SettlingFindsAnOrderThatIsCommittedAllTheSame) {
  Receipt const receipt = buy(catalogue, ledger, {"a", 7, 0, 2}, 9, none);
  EXPECT_EQ(settle(catalogue, ledger, {"a", 7, 0, 2}, 9), receipt.order);
  expect_row(0, 8, 0, 2);
  // Somebody else's order under the same id is not this user's.
  EXPECT_EQ(settle(catalogue, ledger, {"a", 8, 0, 2}, 10), std::nullopt);
}

TEST_F(Shop, TheLedgerListsAllAndByUserAcrossChunks) {
  for (std::uint64_t i = 0; i < 600; ++i) {
    Order order{0, "r" + std::to_string(i), i % 3, i % 2, 1, 5, 5, 0};
    ASSERT_EQ(ledger.append(order, none), Ledger::Added::ok);
  }
  std::uint64_t count = 0;
  auto const page = ledger.list(250, 20, &count);
  EXPECT_EQ(count, 600u);
  ASSERT_EQ(page.size(), 20u);
  for (std::size_t i = 0; i < page.size(); ++i) {
    EXPECT_EQ(page[i].number, 250 + i);
    EXPECT_EQ(page[i].request, "r" + std::to_string(249 + i));
    EXPECT_EQ(page[i].digest, digest_of(page[i]));
  }
  EXPECT_EQ(ledger.list(601, 20, &count).size(), 0u);
  auto const own = ledger.of_user(1, 5);
  ASSERT_EQ(own.size(), 5u);
  EXPECT_EQ(own[0].request, "r598");
  EXPECT_EQ(own[1].request, "r595");
  // 4096 apart: the same chain, not the same user.
  EXPECT_EQ(ledger.of_user(1 + 4096, 5).size(), 0u);
}

TEST_F(Shop, ARequestIdMayFillItsField) {
  std::string const longest(kMaxRequestId, 'x');
  EXPECT_EQ(buy(catalogue, ledger, {longest, 7, 1, 1}, 1, none).outcome, Outcome::bought);
  ASSERT_TRUE(ledger.find(longest));
  EXPECT_EQ(ledger.find(longest)->request, longest);
}

TEST(ShopThreads, PurchasesOfOneBookAddUp) {
  constexpr int kThreads = 4, kEach = 200;
  Catalogue catalogue(1, kThreads * kEach, kThreads);
  Ledger ledger;
  std::atomic<std::uint64_t> purchase{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i)
        EXPECT_EQ(
            buy(catalogue, ledger, {std::to_string(t) + "/" + std::to_string(i), static_cast<std::uint64_t>(t), 0, 1},
                ++purchase, {})
                .outcome,
            Outcome::bought);
    });
  for (auto& thread : threads) thread.join();
  Row const row = catalogue.row(0);
  EXPECT_EQ(row.stock, 0);
  EXPECT_EQ(row.reserved, 0);
  EXPECT_EQ(row.sold, kThreads * kEach);
  std::uint64_t count = 0;
  EXPECT_EQ(ledger.list(1, 10000, &count).size(), static_cast<std::size_t>(kThreads * kEach));
}

TEST(Pauses, EndWhenAnotherPurchaseOfTheBookIsDone) {
  Pauses pauses(2);
  pauses.purchase_begun(1);
  std::thread other([&] {
    while (pauses.waiting().empty()) std::this_thread::yield();
    EXPECT_EQ(pauses.waiting(), std::vector<std::uint64_t>{1});
    pauses.purchase_begun(1);
    pauses.purchase_done(1);
  });
  pauses.wait(1, 10000);
  other.join();
  ASSERT_EQ(pauses.outcomes().size(), 1u);
  EXPECT_EQ(pauses.outcomes()[0].others_begun, 1u);
  EXPECT_EQ(pauses.outcomes()[0].others_done, 1u);
  EXPECT_LT(pauses.outcomes()[0].waited_ms, 10000u);
  EXPECT_TRUE(pauses.waiting().empty());
}

TEST(Pauses, EndByThemselvesAndPurchasesOfOtherBooksDoNotEndThem) {
  Pauses pauses(2);
  pauses.purchase_begun(1);
  pauses.purchase_done(0);
  pauses.wait(1, 30);
  ASSERT_EQ(pauses.outcomes().size(), 1u);
  EXPECT_EQ(pauses.outcomes()[0].others_done, 0u);
  EXPECT_GE(pauses.outcomes()[0].waited_ms, 30u);
}

TEST(Kinds, HaveNamesThatLeadBack) {
  EXPECT_EQ(kind_names().size(), 17u);
  EXPECT_EQ(point_names().size(), 6u);
  for (auto const name : kind_names()) EXPECT_EQ(name_of(*kind_named(name)), name);
  for (auto const name : point_names()) EXPECT_EQ(name_of(*point_named(name)), name);
  EXPECT_FALSE(kind_named("nonsense"));
  EXPECT_FALSE(point_named(""));
}

}  // namespace
