// links: vmsrs_files
// Changes to files, journalled and taken back: random ones against a picture of the tree, torn segments, fencing.
#include "runtime/files/file_journal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

namespace {

using vmm::FileChange;
using vmsrs::runtime::files::FileJournal;
using vmsrs::runtime::files::undo_after;
namespace files = vmsrs::runtime::files;
namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "vmsrs-journal-XXXXXX").string();
    path_ = mkdtemp(name.data()) != nullptr ? name : "";
  }
  ~Folder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  Folder(Folder const&) = delete;
  Folder& operator=(Folder const&) = delete;
  [[nodiscard]] std::string at(std::string const& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string content(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Everything that a failover must find again, by path.
using Picture = std::map<std::string, std::string>;
Picture picture(std::string const& folder) {
  Picture seen;
  for (auto const& entry : fs::recursive_directory_iterator(folder)) {
    struct stat st {};
    EXPECT_EQ(lstat(entry.path().c_str(), &st), 0);
    std::string what = fmt::format("mode {:o} user {}", st.st_mode, st.st_uid);
    if (S_ISREG(st.st_mode)) {
      std::string const text = content(entry.path());
      what += fmt::format(" changed {}.{:09}, {} bytes {:x}", st.st_mtim.tv_sec, st.st_mtim.tv_nsec, text.size(),
                          std::hash<std::string>()(text));
    }
    if (S_ISLNK(st.st_mode)) what += " to " + fs::read_symlink(entry.path()).string();
    seen[entry.path().string()] = what;
  }
  return seen;
}

// A guest's calls, as the handlers make them.
class Guest {
 public:
  Guest(FileJournal& journal, std::string folder) : journal_(journal), folder_(std::move(folder)) {}

  template <class Call>
  int64_t change(FileChange const& what, Call const& call) {
    int64_t const token = journal_.begin(what, nullptr);
    if (token < 0) return token;
    int64_t const result = call() < 0 ? -errno : 0;
    journal_.end(what, token, result);
    return result;
  }
  int64_t write(int fd, std::string const& text, uint64_t offset = FileChange::kOwnPosition) {
    FileChange what{.kind = FileChange::Kind::kWrite, .fd = fd, .offset = offset, .size = text.size()};
    return change(what, [&] {
      return offset == FileChange::kOwnPosition ? ::write(fd, text.data(), text.size())
                                                : pwrite(fd, text.data(), text.size(), static_cast<off_t>(offset));
    });
  }
  int64_t resize(int fd, uint64_t size) {
    return change({.kind = FileChange::Kind::kResize, .fd = fd, .size = size},
                  [&] { return ftruncate(fd, static_cast<off_t>(size)); });
  }
  int64_t create(std::string const& path, char const* text) {
    return change({.kind = FileChange::Kind::kCreate, .fd = AT_FDCWD, .name = path.c_str()}, [&] {
      int const fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644);
      if (fd >= 0) (void)!::write(fd, text, strlen(text)), close(fd);
      return fd;
    });
  }
  int64_t remove(std::string const& path, int flags = 0) {
    return change({.kind = FileChange::Kind::kRemove, .fd = AT_FDCWD, .name = path.c_str()},
                  [&] { return unlinkat(AT_FDCWD, path.c_str(), flags); });
  }
  int64_t rename(std::string const& from, std::string const& to, unsigned flags = 0) {
    auto const kind = (flags & RENAME_EXCHANGE) != 0 ? FileChange::Kind::kExchange : FileChange::Kind::kRename;
    return change({.kind = kind, .fd = AT_FDCWD, .name = from.c_str(), .to_fd = AT_FDCWD, .to_name = to.c_str()},
                  [&] { return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags); });
  }

  // One of everything, on a few names, so that they meet.
  void step(std::mt19937& random) {
    auto const pick = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
    auto const name = [&] {
      std::string const file = folder_ + (pick(3) == 0 ? "/d/" : "/") + static_cast<char>('a' + pick(4));
      return file;
    };
    std::string const text(1 + pick(300), static_cast<char>('A' + pick(26)));
    std::string const path = name();
    switch (pick(14)) {
      case 0:
        create(path, text.c_str());
        break;
      case 1:
        remove(path);
        break;
      case 2:
        rename(path, name());
        break;
      case 3:
        rename(path, name(), pick(2) == 0 ? RENAME_EXCHANGE : RENAME_NOREPLACE);
        break;
      case 4:
        change({.kind = FileChange::Kind::kCreate, .fd = AT_FDCWD, .name = path.c_str()},
               [&] { return symlink("somewhere", path.c_str()); });
        break;
      case 5: {
        std::string const folder = folder_ + "/e";
        if (pick(2) == 0) {
          change({.kind = FileChange::Kind::kCreate, .fd = AT_FDCWD, .name = folder.c_str()},
                 [&] { return mkdir(folder.c_str(), 0750); });
        } else {
          remove(folder, AT_REMOVEDIR);
        }
        break;
      }
      case 6: {
        int const fd = open(path.c_str(), O_PATH | O_NOFOLLOW);
        if (fd < 0) break;
        change({.kind = FileChange::Kind::kAttributes, .fd = fd},
               [&] { return chmod(fmt::format("/proc/self/fd/{}", fd).c_str(), 0600 + pick(64)); });
        close(fd);
        break;
      }
      default: {
        int const how[] = {O_RDWR, O_WRONLY, O_WRONLY | O_APPEND};
        int const fd = open(path.c_str(), how[pick(3)] | O_NOFOLLOW);
        if (fd < 0) break;
        if (pick(3) == 0) lseek(fd, pick(400), SEEK_SET);
        for (unsigned n = pick(4); n > 0; --n) write(fd, text);
        if (pick(2) == 0) write(fd, text, pick(1000));
        if (pick(4) == 0) resize(fd, pick(700));
        if (pick(4) == 0) {
          int const mode = pick(2) == 0 ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
          off_t const offset = pick(500);
          FileChange what{.kind = FileChange::Kind::kAllocate,
                          .fd = fd,
                          .offset = static_cast<uint64_t>(offset),
                          .size = 200,
                          .mode = mode};
          change(what, [&] { return fallocate(fd, mode, offset, 200); });
        }
        close(fd);
      }
    }
  }

 private:
  FileJournal& journal_;
  std::string folder_;
};

struct Scene {
  Folder folder;
  std::string undo = folder.at("undo"), tree = folder.at("tree");
  FileJournal journal{undo, 7};
  Guest guest{journal, tree};
  std::vector<std::string> notes;
  std::function<void(std::string const&)> note = [this](std::string const& text) { notes.push_back(text); };

  Scene() {
    fs::create_directories(undo);
    fs::create_directories(tree + "/d");
    for (char const name : {'a', 'b', 'c'}) std::ofstream(fmt::format("{}/{}", tree, name)) << std::string(500, name);
    std::ofstream(tree + "/d/a") << "in the folder";
  }
};

TEST(FileJournal, RandomChangesAreTakenBackToEitherEpoch) {
  uint64_t records = 0;
  for (unsigned seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(seed);
    Scene s;
    std::mt19937 random(seed);
    for (int i = 0; i < 10; ++i) s.guest.step(random);  // nobody can go back here: nothing is kept
    ASSERT_TRUE(fs::is_empty(s.undo));
    s.journal.boundary(1);
    Picture const first = picture(s.tree);
    for (int i = 0; i < 40; ++i) s.guest.step(random);
    s.journal.safe(1);
    s.journal.boundary(2);
    s.journal.not_taken();
    for (int i = 0; i < 10; ++i) s.guest.step(random);
    s.journal.boundary(2);
    Picture const second = picture(s.tree);
    for (int i = 0; i < 40; ++i) s.guest.step(random);
    records += s.journal.figures().records;
    bool const to_second = seed % 2 == 0;
    if (to_second) s.journal.safe(2);
    auto const undone = undo_after(s.undo, 7, to_second ? 2 : 1, s.note);
    ASSERT_TRUE(undone) << undone.error().message;
    EXPECT_EQ(picture(s.tree), to_second ? second : first);
    EXPECT_EQ(s.notes, std::vector<std::string>());
    EXPECT_TRUE(fs::is_empty(s.undo));
  }
  EXPECT_GT(records, 2000U);  // they did something
}

TEST(FileJournal, WhatIsSafeIsDropped) {
  Scene s;
  int const fd = open((s.tree + "/a").c_str(), O_RDWR);
  s.journal.boundary(1);
  EXPECT_EQ(s.guest.write(fd, "one"), 0);
  s.journal.boundary(2);
  EXPECT_EQ(s.guest.write(fd, "two"), 0);
  EXPECT_EQ(std::distance(fs::directory_iterator(s.undo), {}), 2);
  s.journal.safe(2);
  EXPECT_EQ(std::distance(fs::directory_iterator(s.undo), {}), 1);
  s.journal.stop();
  EXPECT_TRUE(fs::is_empty(s.undo));
  EXPECT_EQ(s.guest.write(fd, "three"), 0);
  EXPECT_TRUE(fs::is_empty(s.undo));
  close(fd);
}

TEST(FileJournal, TornAndDamagedRecordsEndASegment) {
  for (bool const damaged : {false, true}) {
    Scene s;
    int const fd = open((s.tree + "/a").c_str(), O_RDWR);
    s.journal.boundary(1);
    ASSERT_EQ(s.guest.write(fd, "first", 0), 0);
    std::string const segment = fs::directory_iterator(s.undo)->path();
    auto const whole = fs::file_size(segment);
    ASSERT_EQ(s.guest.write(fd, "second", 100), 0);
    if (damaged) {
      std::fstream file(segment, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(fs::file_size(segment) - 1));
      file.put('?');
    } else {
      fs::resize_file(segment, whole + 20);
    }
    auto const undone = undo_after(s.undo, 7, 1, s.note);
    ASSERT_TRUE(undone);
    EXPECT_EQ(undone->changes, 1U);
    std::string const now = content(s.tree + "/a");
    EXPECT_EQ(now.substr(0, 5), "aaaaa");
    EXPECT_EQ(now.substr(100, 6), "second");
    close(fd);
  }
}

TEST(FileJournal, AChangeThatCannotBeKeptIsNotMade) {
  Scene s;
  int const fd = open((s.tree + "/a").c_str(), O_RDWR);
  fs::remove_all(s.undo);
  s.journal.boundary(1);
  EXPECT_EQ(s.guest.write(fd, "lost?"), -ENOENT);
  EXPECT_EQ(s.guest.remove(s.tree + "/b"), -ENOENT);
  EXPECT_EQ(content(s.tree + "/a"), std::string(500, 'a'));
  EXPECT_TRUE(fs::exists(s.tree + "/b"));
  close(fd);
}

TEST(FileJournal, ThreadsThatMeetOnTheSameFilesAreTakenBack) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Scene s;
    s.journal.boundary(1);
    Picture const before = picture(s.tree);
    {
      std::vector<std::jthread> threads;
      for (unsigned t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
          std::mt19937 random(seed * 100 + t);
          for (int i = 0; i < 60; ++i) s.guest.step(random);
        });
      }
    }
    ASSERT_TRUE(undo_after(s.undo, 7, 1, s.note));
    EXPECT_EQ(picture(s.tree), before);
    EXPECT_EQ(s.notes, std::vector<std::string>());
  }
}

TEST(FileJournal, TheOldPrimaryIsEndedAndWaitedFor) {
  Folder folder;
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  pid_t const child = fork();
  if (child == 0) {
    bool const claimed = files::claim(folder.at("")).has_value();
    raise(SIGSTOP);  // asleep is not gone
    (void)!write(ends[1], &claimed, 1);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  ASSERT_TRUE(files::fence(folder.at(""), [](std::string const&) {}));
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  ASSERT_TRUE(files::fence(folder.at(""), [](std::string const&) {})) << "a second time there is nobody";
  close(ends[0]);
  close(ends[1]);
}

TEST(FileJournal, AnotherProcessWithTheOldNumberIsLeftAlone) {
  Folder folder;
  pid_t const child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  std::ofstream(folder.at("owner")) << child << " 1\n";  // nothing of this boot began so early
  ASSERT_TRUE(files::fence(folder.at(""), [](std::string const&) {}));
  EXPECT_EQ(kill(child, 0), 0);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WNOHANG), 0);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
}

}  // namespace
