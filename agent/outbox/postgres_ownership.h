// Which parts of a table this agent may take, of those into which its keys divide it. Each part has
// one owner at a time, so that the rows of a key are taken in their order.
//
// kAdvisoryLock: the session holds a lock for each of its parts, keyed by the table's oid and the
//   part. It ends with the connection.
// kLease: the part's row in the table of owners has a time of expiry, which is set anew when a
//   third of the lease has passed. It works behind a connection pooler. (Asked more rarely than
//   that, an agent loses its parts.)
//
// In both modes the part's row in `holdfast_outbox_owner` names its last owner, and whether it left
// when all that it had taken was at the tier. A free part is taken at once if it left so, if it was
// this very agent, or if there was none. Else its events are in another spool, and newer ones of
// the same keys would overtake them: it is only taken when it was seen free for takeover_after.
//
// Sharing: an agent shows that it is alive by a row in `holdfast_outbox_agent`, which says into how
// many parts it divides the table, too: it is an error if that differs. Who comes looks before it
// shows itself, so that one that is wrong stops none of those that agree. The row stays for as long
// as parts are left that are not clean: until then the number is not changed but by the agent that
// left them, once it has delivered what it took. An agent takes all parts that it left with
// undelivered events, and of the rest, its own first, until it has its share, parts/agents rounded
// up. Who has more gives some up, once all that it has taken is delivered: it stops taking from
// them, and for kPause in kPauseEvery from all, so that this happens under load, too. Those are
// then for others, though their rows still name it.
//
// An agent is its spool, by the id of that, and a name for people, which may change: what it left
// under another one is its own when no lease holds it (one does if the spool was copied, and both
// are in use). Before they had an id agents went by the name alone, so that counts as another one.
//
// Threads: the source's.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/outbox/postgres_connection.h"
#include "base/result.h"

namespace holdfast::outbox {

enum class Ownership : uint8_t { kAdvisoryLock, kLease };

class PostgresOwnership {
 public:
  static constexpr std::chrono::milliseconds kTryEvery{1000};
  static constexpr std::chrono::milliseconds kPause{1000};
  static constexpr std::chrono::milliseconds kPauseEvery{10'000};

  struct Options {
    Ownership mode = Ownership::kAdvisoryLock;
    int32_t parts = 1;
    std::chrono::milliseconds takeover_after{};  // 0: never.
    std::chrono::milliseconds lease{};
    std::string agent;                // For people: its host and the path of its spool.
    std::string spool;                // Its id: who it is.
    std::function<bool()> delivered;  // Whether all that was taken here is at the tier.
  };
  struct Table {
    std::string name;  // With its schema, in quotes.
    int64_t oid = 0;
    std::string owners;  // The tables' names, likewise.
    std::string agents;
  };

  explicit PostgresOwnership(Options options)
      : options_(std::move(options)), name_(options_.agent + "#" + options_.spool) {}

  // On a new connection: nothing is owned yet, so it takes what it may.
  base::Result<void> Start(PostgresConnection& connection, Table table);
  // What Start would say is wrong. Nothing is taken, and nothing said of this agent.
  base::Result<void> Look(PostgresConnection& connection, Table table);
  // Renews, takes and gives up what is due. Only while no rows are in hand.
  base::Result<void> Keep(PostgresConnection& connection);
  // After a read from `parts`: fails if it took so long that they are not all this agent's any
  // more; else the lease holds on.
  base::Result<void> Hold(PostgresConnection& connection, std::span<const int32_t> parts);
  // In a transaction that removes rows: fails if `parts` are not all this agent's any more, and
  // makes who wants them wait for the transaction's end.
  base::Result<void> Fence(PostgresConnection& connection, std::span<const int32_t> parts);
  void Release(PostgresConnection& connection, bool clean);

  [[nodiscard]] bool Owns(int32_t part) const { return owned_.contains(part); }
  [[nodiscard]] std::vector<int32_t> Owned() const { return {owned_.begin(), owned_.end()}; }
  // From which rows may be taken now.
  [[nodiscard]] std::vector<int32_t> Readable() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Seen {
    std::string agent;  // Its last owner.
    Clock::time_point since;
  };

  // Under a name of before.
  [[nodiscard]] bool WasThisAgent(std::string_view name) const {
    return name == options_.agent || name.ends_with("#" + options_.spool);
  }
  [[nodiscard]] base::Error TakenOver() const;
  base::Result<void> Renew(PostgresConnection& connection);
  base::Result<void> CountAgents(PostgresConnection& connection);
  // Rows of agents that are gone, and left nothing.
  base::Result<void> ForgetAgents(PostgresConnection& connection);
  // Fails if another agent left parts of another number; gives those that this one left so.
  // `own`: of an agent's name, whether it is this one's.
  base::Result<std::vector<int32_t>> SeeLeft(PostgresConnection& connection,
                                             const std::function<bool(std::string_view)>& own);
  base::Result<void> SettleOwnLeft(PostgresConnection& connection);
  // Whether all but those whose names begin so divide the table alike.
  base::Result<void> SeeOthers(PostgresConnection& connection, const std::string& but_for);
  base::Result<void> TakeFree(PostgresConnection& connection);
  // Of the parts `from_others` also if another left them, unless that one came back.
  base::Result<void> Take(PostgresConnection& connection, std::vector<int32_t> parts,
                          const std::vector<int32_t>& from_others);
  base::Result<void> GiveUpExcess(PostgresConnection& connection);
  base::Result<void> Unlock(PostgresConnection& connection, std::span<const int32_t> parts);
  void SayWaiting();
  [[nodiscard]] size_t Share() const;
  [[nodiscard]] std::string LockClass() const;
  [[nodiscard]] std::string LeaseMs() const { return std::to_string(options_.lease.count()); }

  const Options options_;
  const std::string name_;  // In the tables.
  Table table_;
  std::set<int32_t> owned_;
  std::set<int32_t> leaving_;  // Those of them that are to be given up.
  Clock::time_point leaving_since_;
  int64_t agents_ = 1;
  std::map<int32_t, Seen> free_;  // Not clean, and another agent's.
  std::set<std::string> said_;    // Agents that are waited for.
  Clock::time_point renewed_;
  Clock::time_point tried_;
};

}  // namespace holdfast::outbox
