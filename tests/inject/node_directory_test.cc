#include "inject/node_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/inject/inject_fixture.h"

namespace holdfast::inject {
namespace {

struct stat Status(const std::string& path) {
  struct stat found {};
  EXPECT_EQ(lstat(path.c_str(), &found), 0) << path;
  return found;
}

TEST(NodeDirectoryTest, MakesWhatTheNodesAgentAndPodsNeed) {
  const TestFolder folder;
  // Only root can give a folder away.
  const uid_t user = geteuid() == 0 ? 65532 : geteuid();
  for (int round = 0; round < 2; ++round) {
    const auto done = PrepareNode(folder.path(), user);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(Status(folder.path() + "/node").st_mode, S_IFDIR | 0700);
    EXPECT_EQ(Status(folder.path() + "/node").st_uid, user);
    EXPECT_EQ(Status(folder.path() + "/pods").st_mode, S_IFDIR | 01777);
    EXPECT_EQ(Status(folder.path() + "/pods").st_uid, user);
  }
}

TEST(NodeDirectoryTest, FollowsNoLink) {
  const TestFolder folder;
  const TestFolder elsewhere;
  const mode_t before = Status(elsewhere.path()).st_mode;
  std::filesystem::create_symlink(elsewhere.path(), folder.path() + "/pods");
  const auto done = PrepareNode(folder.path(), geteuid());
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, testing::HasSubstr("cannot open " + folder.path() + "/pods"));
  EXPECT_EQ(Status(elsewhere.path()).st_mode, before);
  EXPECT_FALSE(PrepareNode(folder.path() + "/gone", geteuid()));
}

}  // namespace
}  // namespace holdfast::inject
