// The webhook's certificate: made together with a CA of its own, whose key nobody keeps, and
// judged.
//
// Threads: any; OpenSSL, no I/O. Keys are ECDSA on P-256.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace holdfast::inject {

// In PEM.
struct WebhookCertificate {
  std::string ca;  // Perhaps several.
  std::string certificate;
  std::string key;
};

// For the DNS names, from a little before `now` (seconds since 1970) on, for so long.
base::Result<WebhookCertificate> MakeCertificate(const std::vector<std::string>& names, int64_t now,
                                                 int64_t valid_seconds);

// Whether a server may show it at the time `at` to a client that trusts its CAs, by each of the
// names. An error says why not.
base::Result<void> CheckCertificate(const WebhookCertificate& tls,
                                    const std::vector<std::string>& names, int64_t at);

// When a certificate, the first in a PEM, ends; 0 if it is none.
int64_t EndOf(const std::string& certificate);

// `first`, and behind it those certificates of `others` that it does not have and that have not
// ended.
std::string JoinCas(const std::string& first, const std::string& others, int64_t now);

}  // namespace holdfast::inject
