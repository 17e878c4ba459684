// What the agent asks of local clients, and what it allows them; replaceable while the agent runs.
// Requests are judged by the newest, on connections that stand, too.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "auth/principal_mapping.h"
#include "auth/sasl_session.h"
#include "base/mutex.h"
#include "proxy/access.h"

namespace holdfast::proxy {

struct LocalPolicy {
  auth::SaslPolicy sasl = {};  // That the agent itself asks for.
  // Which name a certificate gives. Null: its subject.
  std::shared_ptr<const auth::PrincipalMapping> certificate_names = nullptr;
  AccessRules rules = {};

  // The tier knows the agent by its credentials, and clients speak for themselves there: a client
  // may produce through the agent what the tier would let it produce.
  bool tier_decides = false;
  // The tier lets nobody do anything without SASL.
  bool tier_wants_sasl = false;
  // Of what passes through, PLAIN and OAUTHBEARER are for clients on this host: the listener is in
  // the clear.
  bool secrets_stay_here = false;
  // Requests that pass through do so as the agent, with what rights it has at the tier.
  bool lends_agent_rights = false;
  // And with its SASL credentials.
  bool passes_as_agent = false;
};

class LocalPolicies {
 public:
  explicit LocalPolicies(LocalPolicy policy)
      : policy_(std::make_shared<const LocalPolicy>(std::move(policy))) {}

  [[nodiscard]] std::shared_ptr<const LocalPolicy> policy() const {
    const base::MutexLock lock(mutex_);
    return policy_;
  }
  void Replace(LocalPolicy policy) {
    auto made = std::make_shared<const LocalPolicy>(std::move(policy));
    const base::MutexLock lock(mutex_);
    policy_.swap(made);
    version_.fetch_add(1, std::memory_order_release);
  }
  // Grows with each policy.
  [[nodiscard]] uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  mutable base::Mutex mutex_;
  std::shared_ptr<const LocalPolicy> policy_ HF_GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{0};
};

}  // namespace holdfast::proxy
