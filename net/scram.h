// SCRAM (RFC 5802, RFC 7677) without channel binding, as Kafka has it. Names and passwords are
// taken as the bytes they are, as Kafka does: no SASLprep. Inside net/ and its tests.
//
// Threads: one at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/sasl.h"

namespace holdfast::net {

// `nonce`: printable characters without comma, new for each exchange.
std::unique_ptr<SaslClient> MakeScramClient(SaslMechanism mechanism, std::string user,
                                            std::shared_ptr<SaltedPassword> password,
                                            std::string nonce);
std::unique_ptr<SaslServer> MakeScramServer(SaslMechanism mechanism,
                                            std::shared_ptr<const SaslUsers> users,
                                            std::string nonce);
ScramSecret MakeScramSecret(SaslMechanism mechanism, std::string_view password, std::string salt,
                            int iterations);

// Random, with 144 bits.
std::string NewScramNonce();
std::string RandomBytes(size_t size);
// Of a key and a text, with the hash of the mechanism.
std::string ScramHmac(SaslMechanism mechanism, std::string_view key, std::string_view text);
// Takes the same time wherever the two differ.
bool SameSecret(std::string_view a, std::string_view b);

}  // namespace holdfast::net
