// SCRAM credentials of users, as clients make them and the broker keeps them: what a server needs,
// never a password. And who may log in with them.
//
// Threads: any; published credentials are immutable.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/published.h"
#include "net/sasl.h"

namespace holdfast::broker {

// As the protocol numbers them.
enum class ScramMechanism : int8_t { kSha256 = 1, kSha512 = 2 };

struct ScramKey {
  static constexpr size_t kNameBytesMax = 400;  // The spool's keys have at most 511.

  std::string user;
  ScramMechanism mechanism = ScramMechanism::kSha256;

  auto operator<=>(const ScramKey&) const = default;
};

using ScramCredentials = std::map<ScramKey, net::ScramSecret>;

// Users of the configuration log in with PLAIN and SCRAM, those that clients have made with SCRAM
// alone. Of one that is both, what was made by a client counts for SCRAM. The other salts are made
// of `salt_key`, which the broker keeps: what was made by clients stays as well, and names that are
// not there would be known by salts that do not.
class LoginUsers final : public net::SaslUsers {
 public:
  LoginUsers(const std::vector<User>& configured, std::string salt_key,
             const Published<ScramCredentials>& made)
      : configured_(net::SaslUsers::Make(configured, std::move(salt_key))), made_(made) {}

  [[nodiscard]] bool IsPassword(std::string_view user, std::string_view password) const override {
    return configured_->IsPassword(user, password);
  }
  [[nodiscard]] net::ScramSecret SecretOf(std::string_view user,
                                          net::SaslMechanism mechanism) const override;

 private:
  const std::shared_ptr<const net::SaslUsers> configured_;
  const Published<ScramCredentials>& made_;
};

}  // namespace holdfast::broker
