// What a release's hook does for its webhook: certificates in a Secret, and their CA in the
// MutatingWebhookConfiguration.
//
// A renewal breaks no request. It begins as `next.crt` and `next.key` beside the pair in use, with
// both CAs in `ca.crt`; once the API server trusts both, Install moves it to `tls.crt` and
// `tls.key`, where running webhooks find it. The old CA stays in `ca.crt` until it ends.
//
// Threads: any; it blocks. Both can be done again at any time, and by several at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "inject/api_server.h"

namespace holdfast::inject {

struct SecretName {
  std::string name_space;
  std::string name;
};

struct CertificateWish {
  std::vector<std::string> names;  // Of DNS.
  int64_t valid_seconds;
  int64_t renew_before_seconds;  // The end of the one before.
};

// Both return what was done, for a person. `now`: seconds since 1970.
base::Result<std::string> CreateCertificate(const ApiServer& api, const SecretName& secret,
                                            const CertificateWish& wish, int64_t now);
base::Result<std::string> InstallCertificate(const ApiServer& api, const SecretName& secret,
                                             const std::string& webhook_configuration);

}  // namespace holdfast::inject
