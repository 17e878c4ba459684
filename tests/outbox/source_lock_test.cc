#include "agent/outbox/source_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>

namespace holdfast::outbox {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPath = "/var/lib/orders/service.db-holdfast";
constexpr const char* kSetting = "ReadWritePaths=-/var/lib/orders ";

class SourceLockTest : public ::testing::Test {
 protected:
  ~SourceLockTest() override { unsetenv("INVOCATION_ID"); }
};

TEST_F(SourceLockTest, AServiceOfSystemdIsToldWhatItsUnitNeeds) {
  setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef", 1);
  const base::Error error = CannotOpenLock(kPath, EROFS);
  EXPECT_EQ(error.code, base::Code::kInvalid);
  EXPECT_THAT(error.message, HasSubstr("cannot open the lock /var/lib/orders/service.db-holdfast"));
  EXPECT_THAT(error.message, HasSubstr("Read-only file system"));
  EXPECT_THAT(error.message, HasSubstr(kSetting));
  EXPECT_THAT(CannotOpenLock(kPath, EACCES).message, Not(HasSubstr(kSetting)));
}

TEST_F(SourceLockTest, AFileSystemThatIsReadOnlyToAllIsNoMatterOfAUnit) {
  unsetenv("INVOCATION_ID");
  EXPECT_THAT(CannotOpenLock(kPath, EROFS).message, Not(HasSubstr(kSetting)));
}

}  // namespace
}  // namespace holdfast::outbox
