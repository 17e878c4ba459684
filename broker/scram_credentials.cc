#include "broker/scram_credentials.h"

namespace holdfast::broker {

net::ScramSecret LoginUsers::SecretOf(std::string_view user, net::SaslMechanism mechanism) const {
  const auto made = made_.Get();
  const auto found = made->find({std::string(user), mechanism == net::SaslMechanism::kScramSha512
                                                        ? ScramMechanism::kSha512
                                                        : ScramMechanism::kSha256});
  return found != made->end() ? found->second : configured_->SecretOf(user, mechanism);
}

}  // namespace holdfast::broker
