#include "spool/verify.h"

namespace holdfast::spool {

base::Result<VerifyReport> Verify(const std::string& directory, const VerifyOptions& /*options*/) {
  return base::Unexpected(base::Code::kUnavailable, directory + ": cannot be verified yet");
}

base::Result<VerifyReport> Repair(const std::string& directory,
                                  const ProgressCallback& /*progress*/) {
  return base::Unexpected(base::Code::kUnavailable, directory + ": cannot be repaired yet");
}

}  // namespace holdfast::spool
