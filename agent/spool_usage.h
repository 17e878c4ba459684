// How many bytes each topic and each limited client has waiting in the spool, and whether more of
// theirs fits. Decided where the spool's order is made, so limits are exact: nothing between a look
// and an append.
//
// What was appended follows from the entries (their tags name the client), what was released is
// explicit state, written with the cursor that released it; so a restart or a failed commit finds
// the same numbers. In the spool's state, all numbers little-endian behind a byte of format:
//   agent/appended/<stream>  u64 bytes ever appended, as of the newest segment's beginning
//   agent/released/<stream>  u64 bytes of these that are at the tier or given up
//   agent/owner/<u16>        u64 bytes ever appended, then the client's name
//   agent/owner-released/<u16>  u64
// A spool that an older agent filled has none of these: its backlog counts as nothing.
//
// Threads: the spool's writer.
// Limits: kOwnersMax clients are counted at a time; the rest is limited by its topics only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "agent/topic_policy.h"
#include "spool/spool.h"

namespace holdfast::agent {

// The client in an entry's tag. 0: not counted.
using OwnerId = uint16_t;

// What of one stream need not wait any longer.
struct Release {
  uint64_t bytes = 0;
  std::map<OwnerId, uint64_t> owners;

  void Add(OwnerId owner, uint64_t size) {
    bytes += size;
    if (owner != 0) owners[owner] += size;
  }
  void Add(const Release& other);
  [[nodiscard]] bool empty() const { return bytes == 0; }
};

// The client's number in an entry's tag, behind what agent/record_log.cc keeps there.
inline constexpr size_t kOwnerInTag = 14;
OwnerId OwnerOfTag(const spool::Tag& tag);
// What the entries of a stream that begin in [begin, end) come to. From any thread.
Release ReleaseOf(spool::Spool& spool, spool::StreamId stream, int64_t begin, int64_t end);

// Whether the spool has lost the record at `at`, which is before the stream's end, when it answered
// a ReadSound from there so: it is damaged, or a repair has left it out.
bool IsLost(const base::Result<spool::Lease>& read, int64_t at);

// What may still be appended for one topic or client.
struct Headroom {
  uint64_t bytes = 0;
  bool empty = false;  // It has nothing waiting: what is larger than its limit goes in alone.

  [[nodiscard]] bool Fits(uint64_t size) const { return empty || size <= bytes; }
  void Take(uint64_t size) {
    empty = false;
    bytes -= std::min(bytes, size);
  }
};

class SpoolUsage {
 public:
  static constexpr size_t kOwnersMax = 1000;

  // One topic, or one client.
  struct Account {
    std::string name;
    int64_t held = 0;   // Bytes. Less than zero: of a spool that was not counted before.
    uint64_t kept = 0;  // Bytes that are not in the spool yet, and have their room already.
    // Entries that wait for room or, if they have found it, to be applied. What comes later waits
    // behind them.
    uint64_t waiting = 0;
    uint64_t going_in = 0;  // Of these, those that have found room.
    uint64_t pinned = 0;    // Rooms that are given back unless their commit fails.
    TopicPolicy topic;      // Of a topic.
    ClientPolicy client;    // Of a client.
    OwnerId owner = 0;      // Of a client that has something waiting.

    // Beside `more` that will be held soon. What is larger than the limit goes in alone.
    [[nodiscard]] bool Fits(uint64_t bytes, uint64_t more, uint64_t bytes_max) const {
      const int64_t before = held + static_cast<int64_t>(kept + more);
      return bytes_max == 0 || before <= 0 || static_cast<uint64_t>(before) + bytes <= bytes_max;
    }
    [[nodiscard]] Headroom HeadroomUpTo(uint64_t bytes_max) const {
      const int64_t before = held + static_cast<int64_t>(kept);
      if (waiting > 0) return {};
      if (before <= 0) return {.bytes = bytes_max, .empty = true};
      return {.bytes = bytes_max - std::min(bytes_max, static_cast<uint64_t>(before))};
    }
    // Whether anything waits that an entry with this ticket may come after. What goes in is applied
    // by its ticket: the rest of it is behind.
    [[nodiscard]] bool WaitsBefore(uint64_t ticket) const {
      return waiting > (ticket == 0 ? 0 : going_in);
    }
    [[nodiscard]] bool FitsTopic(uint64_t bytes, uint64_t more = 0) const {
      return Fits(bytes, more, topic.bytes_max);
    }
    [[nodiscard]] bool FitsClient(uint64_t bytes, uint64_t more = 0) const {
      return Fits(bytes, more, client.bytes_max);
    }
  };

  // Of a batch of an open local transaction, which is not in the spool before the commit.
  struct Room {
    Account* topic = nullptr;
    Account* client = nullptr;
    uint64_t bytes = 0;
  };

  void SetPolicies(PoliciesPtr policies);
  [[nodiscard]] const Policies& policies() const { return *policies_; }

  // Accounts stay where they are. A client's is forgotten when a segment begins and it has nothing:
  // held, kept, waiting or pinned.
  Account& Topic(std::string_view topic);
  // The same, by way of one of its streams.
  Account& Topic(spool::StreamId stream, std::string_view topic);
  // Null if no rule limits the client, or too many are counted already.
  Account* Client(std::string_view client);
  // What goes into the tags of the account's entries. Null: 0.
  OwnerId OwnerOf(spool::Transaction& transaction, Account* client);

  // Room counts as held until it is given back: before the batch is appended, or in its place. It
  // lives in memory, as the batches do, and survives a failed commit: an operation that gives it
  // back pins it before, and unpins it when it is done, or has kept it again.
  static void Keep(const Room& room);
  static void GiveBack(const Room& room);
  static void Pin(const Room& room);
  static void Unpin(const Room& room);

  void Append(spool::StreamId stream, OwnerId owner, uint64_t bytes);
  // Inside the operation that writes the cursor.
  void Apply(spool::Transaction& transaction, spool::StreamId stream, int64_t confirmed,
             const Release& release);

  void Load(const spool::StateView& state);
  void Replay(const spool::EntryInfo& entry, OwnerId owner);
  void Checkpoint(spool::Transaction& transaction);
  // Nothing of the stream waits, whoever took it away (`holdfast spool drop`). From here on that
  // survives a failed commit, and with PutEmpty a restart.
  void SetEmpty(spool::StreamId stream);
  // Nor of any other that is delivered: no client has anything.
  void SetAllEmpty();
  // Whether either has changed anything.
  [[nodiscard]] bool set_empty() const { return !emptied_.empty() || !owners_emptied_.empty(); }
  void PutEmpty(spool::Transaction& transaction) const;

  // Of all topics.
  [[nodiscard]] uint64_t held() const;

 private:
  struct Counts {
    uint64_t appended = 0;
    uint64_t released = 0;
    Account* account = nullptr;

    [[nodiscard]] int64_t held() const { return static_cast<int64_t>(appended - released); }
  };

  void Attach(Counts& counts, Account& account);
  // Whether it was not.
  static bool SetEmpty(Counts& counts);

  PoliciesPtr policies_ = std::make_shared<const Policies>();
  std::map<std::string, Account, std::less<>> topics_;
  std::map<std::string, Account, std::less<>> clients_;
  std::unordered_map<uint32_t, Counts> streams_;  // By stream id.
  std::map<OwnerId, Counts> owners_;
  // How much was released at least: what had been appended when it was set empty.
  std::map<uint32_t, uint64_t> emptied_;  // By stream id.
  std::map<OwnerId, uint64_t> owners_emptied_;
};

}  // namespace holdfast::agent
