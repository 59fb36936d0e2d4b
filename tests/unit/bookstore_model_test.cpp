// links: bookstore_judge
// The bookstore's judge must catch every kind of wrong answer: it is fed forged ones.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "examples/bookstore/load/model.hpp"

namespace {

using namespace bookstore;
using namespace bookstore::load;

Row row_of(std::uint64_t book, std::int64_t sold, std::uint64_t version) {
  Row row{book, "t", 500, 100 - sold, 0, sold, sold * 500, version, 0};
  row.digest = digest_of(row);
  return row;
}

Order order_of(std::uint64_t number, Purchase const& wish) {
  Order order{number, wish.request, wish.user, wish.book, wish.copies, 500, 500 * wish.copies, 0};
  order.digest = digest_of(order);
  return order;
}

template <class Record>
Record sealed(Record record) {
  record.digest = digest_of(record);
  return record;
}

// Two books; user 3 bought two copies of book 0 by request "a".
class Judge : public testing::Test {
 protected:
  Judge() {
    model.begin({row_of(0, 0, 1), row_of(1, 0, 1)}, {});
    model.sent(wish);
    model.bought(3, "a", order);
    right = {row_of(0, 2, 3), row_of(1, 0, 1)};
  }
  std::uint64_t count(Wrong kind) const { return model.finding().wrong[static_cast<std::size_t>(kind)]; }
  // Exactly this is wrong.
  void expect_only(Wrong kind, std::uint64_t times = 1) const {
    Finding const f = model.finding();
    EXPECT_EQ(count(kind), times) << name_of(kind);
    EXPECT_EQ(f.wrong_answers, times) << (f.first.empty() ? "" : f.first[0].text);
    EXPECT_FALSE(f.first.empty());
  }
  void expect_all_right() const {
    Finding const f = model.finding();
    EXPECT_EQ(f.wrong_answers, 0u) << (f.first.empty() ? "" : f.first[0].text);
    EXPECT_EQ(f.lost_updates, 0u) << (f.first.empty() ? "" : f.first[0].text);
  }

  Model model;
  Purchase const wish{3, "a", 0, 2};
  Order const order = order_of(1, wish);
  std::vector<Row> right;
};

TEST_F(Judge, FindsNothingWrongWithTheTruth) {
  Floor const before = model.floor();
  model.saw_row(5, right[0], before);
  model.saw_orders(3, {order}, 50);
  model.looked_up(3, "a", order);
  model.finish(right, {order});
  expect_all_right();
  EXPECT_TRUE(model.finding().finished);
  EXPECT_EQ(model.finding().acknowledged, 1u);
}

TEST_F(Judge, AcceptsARowInMidPurchaseButNotAtTheEnd) {
  Row row = row_of(0, 0, 2);
  row.stock = 98;
  row.reserved = 2;
  model.saw_row(5, sealed(row), model.floor());
  expect_all_right();
  model.finish({sealed(row), right[1]}, {order});
  EXPECT_EQ(model.finding().lost_updates, 1u);
}

TEST_F(Judge, SeesATornRowWhicheverFieldIsOff) {
  for (int field = 0; field < 6; ++field) {
    Row row = right[0];
    std::int64_t* const numbers[] = {&row.price, &row.stock, &row.reserved, &row.sold, &row.revenue};
    if (field < 5)
      *numbers[field] += 1;
    else
      row.version += 1;
    model.saw_row(5, row, {});
  }
  expect_only(Wrong::torn, 6);
}

TEST_F(Judge, SeesATornOrderInEveryAnswer) {
  Order torn = order;
  torn.total = 0;
  model.looked_up(3, "a", torn);
  expect_only(Wrong::torn);
  model.saw_orders(3, {torn}, 1);
  expect_only(Wrong::torn, 2);
  model.finish(right, {torn});
  expect_only(Wrong::torn, 3);
}

TEST_F(Judge, SeesCopiesThatAppearOrVanish) {
  for (auto field : {&Row::stock, &Row::reserved, &Row::sold, &Row::revenue, &Row::price}) {
    Row row = right[0];
    row.*field += 1;
    model.saw_row(5, sealed(row), {});
  }
  Row row = right[0];
  row.stock = -1;
  row.reserved = 99;
  model.saw_row(5, sealed(row), {});
  expect_only(Wrong::arithmetic, 6);
}

TEST_F(Judge, SeesAWrongTotal) {
  Purchase const other{4, "b", 1, 3};
  model.sent(other);
  Order bad = order_of(2, other);
  bad.total = 1;
  model.bought(4, "b", sealed(bad));
  expect_only(Wrong::arithmetic);
}

TEST_F(Judge, SeesAFalseSoldOut) {
  model.sent({4, "b", 1, 3});
  model.sold_out(4, "b");
  expect_only(Wrong::arithmetic);
}

TEST_F(Judge, BelievesASoldOutThatOthersAccountFor) {
  model.sent({4, "b", 1, 99});
  model.sent({5, "c", 1, 2});
  model.sold_out(5, "c");
  expect_all_right();
}

TEST_F(Judge, SeesARowThatIsOlderThanAnAnswerBeforeTheRequest) {
  model.saw_row(5, right[0], model.floor());
  Floor const before = model.floor();
  model.saw_row(6, row_of(0, 0, 1), before);
  expect_only(Wrong::stale);
}

TEST_F(Judge, AcceptsAnOlderRowOfARequestThatWasUnderWay) {
  Floor const before = model.floor();
  model.saw_row(5, right[0], model.floor());
  model.saw_row(6, row_of(0, 0, 1), before);
  expect_all_right();
}

TEST_F(Judge, SeesALostOrderAtALookUp) {
  model.looked_up(3, "a", std::nullopt);
  expect_only(Wrong::lost);
}

TEST_F(Judge, SeesALostOrderInTheUsersOwnList) {
  model.saw_orders(3, {}, 50);
  expect_only(Wrong::lost);
}

TEST_F(Judge, DoesNotTakeAFullPageForALoss) {
  Purchase const newer{3, "b", 1, 1};
  model.sent(newer);
  model.bought(3, "b", order_of(2, newer));
  model.saw_orders(3, {order_of(2, newer)}, 1);
  expect_all_right();
}

TEST_F(Judge, SeesALostOrderInTheLedger) {
  model.finish({row_of(0, 0, 3), right[1]}, {});
  EXPECT_EQ(model.finding().lost_updates, 1u);
}

TEST_F(Judge, SeesALostStockUpdateUnderAnOrderThatIsThere) {
  model.finish({row_of(0, 0, 3), right[1]}, {order});
  EXPECT_EQ(model.finding().lost_updates, 1u);
}

TEST_F(Judge, SeesAnUpdateOfAPurchaseThatLeftNoOrder) {
  model.finish({right[0], row_of(1, 1, 3)}, {order});
  EXPECT_EQ(model.finding().lost_updates, 1u);
}

TEST_F(Judge, SeesADuplicateInTheLedger) {
  Order twice = order;
  twice.number = 2;
  model.finish({row_of(0, 4, 5), right[1]}, {order, sealed(twice)});
  EXPECT_GE(count(Wrong::duplicate), 1u);
}

TEST_F(Judge, SeesOneNumberGivenToTwoPurchases) {
  Purchase const other{4, "b", 1, 3};
  model.sent(other);
  model.bought(4, "b", order_of(1, other));
  expect_only(Wrong::duplicate);
}

TEST_F(Judge, SeesAnOrderTwiceInOneAnswer) {
  model.saw_orders(3, {order, order}, 50);
  expect_only(Wrong::duplicate);
}

TEST_F(Judge, SeesAPhantomOrder) {
  Order const phantom = order_of(2, {9, "z", 1, 1});
  model.finish({right[0], row_of(1, 1, 3)}, {order, phantom});
  expect_only(Wrong::phantom);
}

TEST_F(Judge, SeesAnOrderThatIsNotWhatWasAskedFor) {
  for (auto change : {0, 1, 2}) {
    Purchase other = wish;
    if (change == 0) other.copies = 3;
    if (change == 1) other.book = 1;
    if (change == 2) other.user = 4;
    model.looked_up(3, "a", order_of(1, other));
  }
  expect_only(Wrong::phantom, 3);
}

TEST_F(Judge, SeesSomebodyElsesOrderInAList) {
  Purchase const other{4, "b", 1, 3};
  model.sent(other);
  model.bought(4, "b", order_of(2, other));
  model.saw_orders(3, {order_of(2, other), order}, 50);
  expect_only(Wrong::phantom);
}

TEST_F(Judge, SeesALieAboutAnOrderThatIsThere) {
  Purchase const faulted{1, "f", 1, 1};
  model.sent(faulted);
  model.told(1, "f", false);
  model.looked_up(1, "f", order_of(2, faulted));
  expect_only(Wrong::lie);
  model.saw_orders(1, {order_of(2, faulted)}, 50);
  expect_only(Wrong::lie, 2);
  model.finish({right[0], row_of(1, 1, 3)}, {order, order_of(2, faulted)});
  expect_only(Wrong::lie, 3);
}

TEST_F(Judge, SeesALieAboutAnOrderThatIsNotThere) {
  model.sent({1, "f", 1, 1});
  model.told(1, "f", true);
  model.looked_up(1, "f", std::nullopt);
  expect_only(Wrong::lost);
  model.finish(right, {order});
  EXPECT_EQ(model.finding().lost_updates, 1u);
}

TEST_F(Judge, LeavesAnUnansweredPurchaseOpenButHoldsItToItsFirstAnswer) {
  Purchase const cut{1, "f", 1, 1};
  model.sent(cut);
  model.unanswered(1, "f");
  model.looked_up(1, "f", std::nullopt);
  expect_all_right();
  model.looked_up(1, "f", order_of(2, cut));
  expect_all_right();
  EXPECT_EQ(model.finding().unknown_committed, 1u);
  model.looked_up(1, "f", std::nullopt);
  expect_only(Wrong::lost);
  model.finish(right, {order});
  EXPECT_EQ(model.finding().lost_updates, 1u);
}

TEST_F(Judge, SeesGapsAndDisorderInTheLedger) {
  Purchase const other{4, "b", 1, 3};
  model.sent(other);
  model.bought(4, "b", order_of(3, other));
  model.finish({right[0], row_of(1, 3, 3)}, {order, order_of(3, other)});
  expect_only(Wrong::malformed);
}

TEST_F(Judge, HoldsTheServerToOrdersFromBeforeTheRun) {
  Model later;
  later.begin(right, {order});
  Order changed = order;
  changed.copies = 1;
  later.finish(right, {sealed(changed)});
  EXPECT_EQ(later.finding().wrong_answers, 1u);
  later.finish(right, {});
  EXPECT_EQ(later.finding().lost_updates, 1u);
}

TEST(Records, SurviveTheWire) {
  Row const row = row_of(1, 7, 9);
  Order const order = order_of(4, {2, "ünïcode \"quoted\"", 1, 2});
  EXPECT_EQ(nlohmann::json::parse(nlohmann::json(row).dump()).get<Row>(), row);
  EXPECT_EQ(nlohmann::json::parse(nlohmann::json(order).dump()).get<Order>(), order);
}

TEST(Records, RefuseABadDigest) {
  nlohmann::json json = row_of(1, 7, 9);
  for (char const* bad : {"", "12", "000000000000000g", "0123456789abcdef0"}) {
    json["digest"] = bad;
    EXPECT_THROW((void)json.get<Row>(), std::invalid_argument) << bad;
  }
}

}  // namespace
