// links: vmsrs_replicate
// Messages and the sealed channel: what is damaged, repeated, cut or from a stranger is refused with the reason.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <random>

#include "runtime/replicate/channel.hpp"

namespace {

using namespace vmsrs::runtime::replicate;
namespace asio = boost::asio;

Message sample(size_t bytes = 64) {
  return EpochData{Bytes(bytes, std::byte{0x5a})};
}

TEST(Messages, EachComesBackAsItWas) {
  Marks marks;
  marks.epoch = 77;
  marks.open = {{1, 2, 3, true}, {4, 5, 6, false}};
  marks.closed = {9, 10};
  auto const back = decode(encode(marks));
  ASSERT_TRUE(back && std::holds_alternative<Marks>(*back));
  auto const& got = std::get<Marks>(*back);
  EXPECT_EQ(got.open[0].written, 3U);
  EXPECT_TRUE(got.open[0].write_shut);
  EXPECT_EQ(got.closed, (std::vector<uint64_t>{9, 10}));
  Opening const opening{5, 6, *Address::parse("127.0.0.1:9"), *Address::parse("[::1]:8"), *Address::parse("unix:@x")};
  auto const opened = decode(encode(opening));
  ASSERT_TRUE(opened && std::holds_alternative<Opening>(*opened));
  EXPECT_EQ(std::get<Opening>(*opened).client.text(), "[::1]:8");
  EXPECT_EQ(std::get<Opening>(*opened).server.text(), "unix:@x");
}

TEST(Messages, CutShortOrTooLongIsNoMessage) {
  Hello hello;
  hello.term = 3;
  hello.holds = {{1, 2}, {2, 3}};
  Bytes const whole = encode(hello);
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(decode(std::span(whole).first(n))) << n;
  Bytes longer = whole;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode(longer));
  Bytes huge = encode(EpochData{});
  huge[1] = huge[2] = huge[3] = huge[4] = std::byte{0xff};  // a list of 2^32-1 items
  EXPECT_FALSE(decode(huge));
}

struct Talk {
  Key key = Key::random();
  Conversation client{key, Purpose::kEpochs}, server{key, Purpose::kEpochs};
  Talk() {
    auto const challenge = server.challenge(client.greet());
    EXPECT_TRUE(server.accept(*client.answer(*challenge)));
  }
  std::optional<Bytes> arrive(Bytes const& frame) { return server.open(std::span(frame).subspan(4)); }
};

TEST(Seal, WhatIsSealedIsOpened) {
  Talk talk;
  for (size_t size : {0, 1, 1000, 100'000}) {
    Bytes const message(size, std::byte{7});
    EXPECT_EQ(talk.arrive(talk.client.seal(message)), message);
    Bytes const back = talk.server.seal(message);
    EXPECT_EQ(talk.client.open(std::span(back).subspan(4)), message);
  }
}

TEST(Seal, EveryBitOfAFrameCounts) {
  Bytes const message(20, std::byte{7});
  size_t const size = Talk().client.seal(message).size();
  for (size_t bit = 32; bit < size * 8; ++bit) {
    Talk talk;
    Bytes frame = talk.client.seal(message);
    frame[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_FALSE(talk.arrive(frame)) << "bit " << bit;
  }
}

TEST(Seal, RepeatedSkippedAndForeignFramesAreRefused) {
  Talk talk, stranger;
  Bytes const first = talk.client.seal(Bytes(5)), second = talk.client.seal(Bytes(6));
  EXPECT_FALSE(talk.arrive(second)) << "one was left out";
  Talk again;
  Bytes const one = again.client.seal(Bytes(5));
  EXPECT_TRUE(again.arrive(one));
  EXPECT_FALSE(again.arrive(one)) << "repeated";
  EXPECT_FALSE(stranger.arrive(first)) << "of another conversation";
}

TEST(Seal, AStrangersKeyIsRefusedByBothSides) {
  Conversation client(Key::random(), Purpose::kControl), server(Key::random(), Purpose::kControl);
  auto const challenge = server.challenge(client.greet());
  ASSERT_TRUE(challenge);
  EXPECT_FALSE(client.answer(*challenge)) << "the client believed a server without the key";
  Key const key = Key::random();
  Conversation epochs(key, Purpose::kEpochs), control(key, Purpose::kControl);
  EXPECT_FALSE(control.challenge(epochs.greet())) << "for another purpose";
  Conversation honest(key, Purpose::kControl);
  EXPECT_TRUE(honest.challenge(Conversation(key, Purpose::kControl).greet()));
  EXPECT_FALSE(honest.accept(Bytes(kAnswerSize))) << "the server believed an empty proof";
}

// A channel's two ends over a pair of sockets, with something between them that can spoil bytes.
struct Ends {
  asio::io_context io;
  std::shared_ptr<Channel> client, server;
  std::vector<Message> got;
  std::string client_closed, server_closed;
  static Socket wrap(asio::io_context& io, int fd) {
    Socket socket(io);
    socket.assign(asio::generic::stream_protocol(AF_UNIX, 0), fd);
    return socket;
  }
};

TEST(Channel, MessagesArriveInOrder) {
  Ends ends;
  Key const key = Key::random();
  auto const server = Acceptor::listen(ends.io, *Address::parse("127.0.0.1:0"), [&](Socket socket) {
    ends.server = Channel::accept(std::move(socket), key, Purpose::kControl,
                                  {{},
                                   [&](Message&& m) {
                                     ends.got.push_back(std::move(m));
                                     if (ends.got.size() == 300) ends.io.stop();
                                   },
                                   [&](std::string const& why) { ends.server_closed = why; },
                                   {}});
  });
  ASSERT_TRUE(server) << server.error().message;
  ends.client = Channel::connect(ends.io, (*server)->address(), key, Purpose::kControl,
                                 {[&] {
                                    for (uint64_t i = 0; i < 300; ++i) ends.client->send(Safe{i});
                                  },
                                  [](Message&&) {},
                                  [&](std::string const& why) { ends.client_closed = why; },
                                  {}});
  ends.io.run_for(std::chrono::seconds(20));
  ASSERT_EQ(ends.got.size(), 300U) << ends.client_closed << ends.server_closed;
  for (uint64_t i = 0; i < 300; ++i) EXPECT_EQ(std::get<Safe>(ends.got[i]).epoch, i);
  ends.client->shut();
  ends.server->shut();
}

// Takes a recording of what a client sends to a server, spoils one byte of it, and plays it on.
TEST(Channel, ADamagedByteClosesItWithTheReason) {
  std::mt19937 random(7);
  Key const key = Key::random();
  for (int round = 0; round < 40; ++round) {
    Ends ends;
    int left[2], right[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, left), 0);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, right), 0);
    size_t const spoil = 1 + random() % 1500;
    size_t passed = 0;
    // client — left[0] | left[1] — middle — right[1] | right[0] — server
    Socket from = Ends::wrap(ends.io, left[1]), to = Ends::wrap(ends.io, right[1]);
    std::array<std::byte, 512> buffer{}, other{};
    std::function<void()> forward = [&] {
      from.async_read_some(asio::buffer(buffer), [&](boost::system::error_code error, size_t n) {
        if (error) return;
        if (passed <= spoil && spoil < passed + n) buffer[spoil - passed] ^= std::byte{0x10};
        passed += n;
        boost::system::error_code ignored;
        asio::write(to, asio::buffer(buffer, n), ignored);
        forward();
      });
    };
    std::function<void()> backward = [&] {
      to.async_read_some(asio::buffer(other), [&](boost::system::error_code error, size_t n) {
        if (error) return;
        boost::system::error_code ignored;
        asio::write(from, asio::buffer(other, n), ignored);
        backward();
      });
    };
    forward();
    backward();
    auto const closed = [&](std::string* where) {
      return [&, where](std::string const& why) {
        *where = why;
        ends.io.stop();
      };
    };
    ends.server =
        Channel::accept(Ends::wrap(ends.io, right[0]), key, Purpose::kEpochs,
                        {{}, [&](Message&& m) { ends.got.push_back(std::move(m)); }, closed(&ends.server_closed), {}});
    // A client that is connected already: the handshake's first half by hand.
    Socket client = Ends::wrap(ends.io, left[0]);
    Conversation talk(key, Purpose::kEpochs);
    asio::write(client, asio::buffer(talk.greet()));
    Bytes challenge(kChallengeSize);
    asio::async_read(client, asio::buffer(challenge), [&](boost::system::error_code error, size_t) {
      if (error) return;
      auto const answer = talk.answer(challenge);
      if (!answer) {
        // The server's proof is one for another nonce than was sent.
        ends.client_closed = "refused";
        return ends.io.stop();
      }
      asio::write(client, asio::buffer(*answer));
      for (int i = 0; i < 10; ++i) asio::write(client, asio::buffer(talk.seal(encode(sample(150)))));
      boost::system::error_code ignored;
      client.shutdown(Socket::shutdown_send, ignored);
    });
    ends.io.run_for(std::chrono::seconds(3));
    for (Message const& message : ends.got) EXPECT_EQ(encode(message), encode(sample(150))) << "a changed message";
    EXPECT_LT(ends.got.size(), 10U);
    EXPECT_FALSE(ends.server_closed.empty() && ends.client_closed.empty()) << "byte " << spoil;
    ends.server->shut();
  }
}

}  // namespace
