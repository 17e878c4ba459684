// The agent's own client of the tier: finds the brokers from a list of addresses, keeps one
// connection to each that is asked for, and what it learns goes into the metadata cache.
//
// As long as no broker answers, the addresses are tried in turn, with a backoff that grows with
// each round. Once a broker does, the list is left alone until all are lost. A tier of which
// nothing was heard for kFirstContact counts as away. A connection to an address that its broker
// has left, or to a broker of another cluster, is let go with the next answer to metadata, also
// where it works: somebody else may listen there.
//
// Ownership: what the context names outlives it.
// Threads: everything on the loop, but RequestRefresh and RequestSettings.
// Shutdown: the destructor closes and drops callbacks uncalled.
// Limits: metadata is asked for every Options::metadata_refresh, and at most ten times a second
//   when something is missing. Declared topics that the tier refuses to create it is asked for less
//   and less often, as often as for metadata in the end, and so for those that RefreshMetadata
//   named, until nobody has named them for twice that long. At most kLookedForMax topics that
//   clients named are looked for at a time.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "proxy/link.h"
#include "proxy/metadata_cache.h"
#include "proxy/settings_inquiry.h"
#include "proxy/tier.h"

namespace holdfast::kafka {
struct CreateTopicsResponse;
struct MetadataResponse;
}  // namespace holdfast::kafka

namespace holdfast::proxy {

class Upstream final : public Tier {
 public:
  static constexpr size_t kLookedForMax = 1000;
  static constexpr base::Duration kFirstContact = std::chrono::seconds(3);

  struct Options {
    std::vector<net::HostPort> bootstrap;  // At least one.
    Link::Options link;
    base::Duration metadata_refresh = std::chrono::seconds(60);
  };

  // Begins to connect.
  Upstream(Link::Context context, Options options, MetadataCache& cache);
  ~Upstream() override;

  // Before the loop turns. May be null: nobody listens.
  void SetObserver(TierObserver* observer) { observer_ = observer; }

  [[nodiscard]] bool Ready(int32_t node) override;
  [[nodiscard]] std::optional<int16_t> Version(int32_t node, const kafka::Api& api,
                                               int16_t cap) override;
  void Send(int32_t node, base::Buffer frame, OnAnswer on_answer) override;
  void RefreshMetadata(std::string_view topic) override;

  // One that is connected to, or that could not be.
  struct Peer {
    int32_t node = kAnyNode;  // kAnyNode: an address of the list, while that is tried.
    net::HostPort address;
    bool ready = false;
    std::string trouble;  // Why not, of the last attempt.
  };
  [[nodiscard]] std::vector<Peer> Peers() const;

  // From any thread: a local client asked for a topic that is not known. It is looked for once, and
  // not made.
  void RequestRefresh(std::string topic);
  // From any thread: a local client produces to a topic whose settings are not known.
  void RequestSettings(std::string topic);

 private:
  [[nodiscard]] Link* FindReady(int32_t node);
  void Bootstrap();
  void PlanBootstrap();
  [[nodiscard]] size_t BootstrapIndex() const;  // Of the address that was tried last.
  void OnLinkReady(int32_t node);
  void LearnVersions();
  void OnLinkLost(int32_t node);
  void NoteAway();
  void Retire(std::unique_ptr<Link> link);
  void AskMetadata();
  void AskTheList(std::string_view why);
  [[nodiscard]] bool IsOther(const kafka::MetadataResponse& response) const;
  void OnMetadata(const kafka::MetadataResponse& response);
  void NoteRights(const kafka::MetadataResponse& response);
  void MakeMissingTopics(const kafka::MetadataResponse& response);
  void CreateDeclared(const std::vector<std::string>& topics, int32_t controller);
  void OnCreated(const kafka::CreateTopicsResponse& response);
  void LetTierCreate(const std::vector<std::string>& topics);
  [[nodiscard]] base::Duration NextWait(base::Duration last) const;
  void KeepLinksInStep(bool other_cluster);
  void PlanRefresh(base::Duration delay);

  const Link::Context context_;
  const Options options_;
  MetadataCache& cache_;
  TierObserver* observer_ = nullptr;

  std::unique_ptr<Link> bootstrap_;
  size_t next_bootstrap_ = 0;
  std::vector<std::string> bootstrap_troubles_;  // Of each address of the list.
  uint32_t bootstrap_attempts_ = 0;              // In a row, without one becoming ready.
  bool bootstrap_planned_ = false;               // bootstrap_timer_ is set.
  std::map<int32_t, std::unique_ptr<Link>> links_;

  struct Wanted {
    base::TimePoint named;  // The last time.
    bool asked = false;
  };
  // With records to deliver, until they are there.
  std::map<std::string, Wanted, std::less<>> wanted_;
  std::set<std::string, std::less<>> looked_for_;  // Topics that clients named, until asked for.
  bool asking_ = false;
  bool ask_again_ = false;
  base::TimePoint last_asked_;
  base::TimePoint list_again_;  // Not before, whatever clients were told.
  // Addresses of the list that may still say that the tier is the cluster that it was.
  size_t others_to_ask_ = 0;
  base::Timer refresh_timer_;
  base::TimePoint refresh_due_ = base::TimePoint::max();  // max(): none is planned.
  base::Timer bootstrap_timer_;
  base::Timer first_contact_timer_;
  bool only_controller_creates_ = false;
  // Of the declared topics that the tier refuses to create, and how long it is left alone by then.
  base::TimePoint create_again_;
  base::Duration create_wait_{};
  // The same of those that are wanted, and that it does not make.
  base::TimePoint wanted_again_;
  base::Duration wanted_wait_{};
  SettingsInquiry settings_;
  // Lets tasks that were posted from other threads see whether this is still there.
  std::shared_ptr<Upstream*> self_;
};

}  // namespace holdfast::proxy
