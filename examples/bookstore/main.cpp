// bookstore: a multi-user HTTP server to put under the monitor, and to break.
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>

#include "examples/bookstore/service.hpp"
#include "examples/bookstore/transport.hpp"

namespace {

bookstore::HttpServer* g_server = nullptr;

void stop(int) {
  int const kept = errno;
  g_server->request_stop();
  errno = kept;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace bookstore;
  ServiceOptions options;
  std::string host = "127.0.0.1";
  int port = 8080;

  CLI::App app{"A bookstore over HTTP whose data survives its users' crashes under vmsrs."};
  app.add_option("--host", host, "address to listen on")->capture_default_str();
  app.add_option("--port", port, "port; 0: any free one, which is printed")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "connections served at once, a thread each")
      ->check(CLI::Range(1, 900))
      ->capture_default_str();
  app.add_option("--books", options.books, "books in the catalogue")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_option("--stock", options.stock, "copies of each book")
      ->check(CLI::Range(0, 1000000000))
      ->capture_default_str();
  app.add_flag("--inject", options.inject, "let requests ask for faults");
  app.add_option("--deadline", options.deadline_ms, "ms for each request; 0: no limit")->capture_default_str();
  app.add_option("--hang-deadline", options.hang_deadline_ms, "ms for a request that asked for a hang")
      ->check(CLI::Range(1, 60000))
      ->capture_default_str();
  std::map<std::string, Answer> const answers{{"after", Answer::after}, {"send", Answer::send}, {"held", Answer::held}};
  app.add_option("--answer", options.answer,
                 "a purchase's answer leaves: after its scope; as its commit (send); in it, held")
      ->transform(CLI::Transformer(answers))
      ->type_name("after|send|held");
  std::map<std::string, int> const isolations{
      {"default", SRS_DEFAULT}, {"hold", SRS_HOLD}, {"release", SRS_RELEASE}, {"track", SRS_TRACK}};
  app.add_option("--isolation", options.isolation, "of every scope; default: as the monitor was told")
      ->transform(CLI::Transformer(isolations))
      ->type_name("hold|release|track|default");
  std::string journal;
  app.add_option("--journal", journal,
                 "--answer after: append each order to this file, and sync it, before it is answered");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }

  if (!journal.empty() &&
      (options.journal = open(journal.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) < 0) {
    std::fprintf(stderr, "bookstore: --journal %s: %s\n", journal.c_str(), std::strerror(errno));
    return 1;
  }
  try {
    HttpServer http(options.threads);
    Service const service(options, http);
    auto const bound = http.open(host, port);
    if (!bound) {
      std::fprintf(stderr, "bookstore: %s\n", bound.error().c_str());
      return 1;
    }
    g_server = &http;
    struct sigaction action = {};
    action.sa_handler = stop;
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
    std::printf("bookstore: listening on http://%s:%d\n", host.c_str(), *bound);
    std::fflush(stdout);
    if (!http.run()) {
      std::fprintf(stderr, "bookstore: accepting connections failed: %s\n", std::strerror(errno));
      return 1;
    }
  } catch (std::exception const& e) {
    std::fprintf(stderr, "bookstore: %s\n", e.what());
    return 1;
  }
  return 0;
}
