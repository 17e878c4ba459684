#include "agent/spool_usage.h"

#include <algorithm>
#include <array>
#include <utility>

#include "agent/forward_state.h"
#include "base/endian.h"

namespace holdfast::agent {
namespace {

constexpr char kFormat = 1;
constexpr size_t kReadAtOnce = size_t{4} << 20;
constexpr std::string_view kAppendedPrefix = "agent/appended/";
constexpr std::string_view kReleasedPrefix = "agent/released/";
constexpr std::string_view kOwnerPrefix = "agent/owner/";
constexpr std::string_view kOwnerReleasedPrefix = "agent/owner-released/";

std::string OwnerKey(std::string_view prefix, OwnerId owner) {
  std::array<char, 2> id;
  base::StoreBig(id.data(), owner);
  return std::string(prefix).append(id.data(), id.size());
}

OwnerId ParseOwnerKey(std::string_view prefix, std::string_view key) {
  if (key.size() != prefix.size() + 2) return 0;
  return base::LoadBig<OwnerId>(key.data() + prefix.size());
}

std::string Encode(uint64_t number, std::string_view name = {}) {
  std::array<char, 9> bytes;
  bytes[0] = kFormat;
  base::StoreLittle(bytes.data() + 1, number);
  return std::string(bytes.data(), bytes.size()).append(name);
}

// None: written by another version. Limits then begin anew, which loses nothing.
std::optional<uint64_t> Decode(std::string_view value) {
  if (value.size() < 9 || value[0] != kFormat) return std::nullopt;
  return base::LoadLittle<uint64_t>(value.data() + 1);
}

}  // namespace

void Release::Add(const Release& other) {
  bytes += other.bytes;
  for (const auto& [owner, size] : other.owners) owners[owner] += size;
}

OwnerId OwnerOfTag(const spool::Tag& tag) {
  return base::LoadLittle<OwnerId>(tag.data() + kOwnerInTag);
}

Release ReleaseOf(spool::Spool& spool, spool::StreamId stream, int64_t begin, int64_t end) {
  Release release;
  const int64_t first = begin;
  while (begin < end) {
    const auto lease = spool.Read(stream, begin, kReadAtOnce);
    if (lease && lease->empty()) break;
    if (!lease) {
      // What is damaged cannot be counted; the account is set right when the stream is drained.
      const auto next = spool.NextReadable(stream, begin + 1);
      if (!next || *next <= begin) break;
      begin = *next;
      continue;
    }
    for (const spool::EntryView& entry : lease->entries()) {
      if (entry.info.base_offset >= end) return release;
      if (entry.info.base_offset >= first) {
        release.Add(OwnerOfTag(entry.info.tag), entry.info.bytes);
      }
      begin = entry.info.end_offset();
    }
  }
  return release;
}

bool IsLost(const base::Result<spool::Lease>& read, int64_t at) {
  if (!read) return read.error().code == base::Code::kCorrupt;
  return read->empty() || read->entries().front().info.base_offset > at;
}

void SpoolUsage::SetPolicies(PoliciesPtr policies) {
  policies_ = std::move(policies);
  for (auto& [name, account] : topics_) account.topic = policies_->ForTopic(name);
  for (auto& [name, account] : clients_) {
    const ClientPolicy* policy = policies_->ForClient(name);
    account.client = policy == nullptr ? ClientPolicy{} : *policy;
  }
}

void SpoolUsage::Attach(Counts& counts, Account& account) {
  if (counts.account == &account) return;
  if (counts.account != nullptr) counts.account->held -= counts.held();
  counts.account = &account;
  account.held += counts.held();
}

SpoolUsage::Account& SpoolUsage::Topic(spool::StreamId stream, std::string_view topic) {
  Counts& counts = streams_[stream.value()];
  if (counts.account == nullptr || counts.account->name != topic) Attach(counts, Topic(topic));
  return *counts.account;
}

SpoolUsage::Account& SpoolUsage::Topic(std::string_view topic) {
  auto found = topics_.find(topic);
  if (found == topics_.end()) {
    found = topics_.try_emplace(std::string(topic)).first;
    found->second.name = topic;
    found->second.topic = policies_->ForTopic(topic);
  }
  return found->second;
}

SpoolUsage::Account* SpoolUsage::Client(std::string_view client) {
  const auto found = clients_.find(client);
  if (found != clients_.end()) return &found->second;
  const ClientPolicy* policy = policies_->ForClient(client);
  if (policy == nullptr || policy->bytes_max == 0 || clients_.size() >= kOwnersMax) return nullptr;
  Account& added = clients_.try_emplace(std::string(client)).first->second;
  added.name = client;
  added.client = *policy;
  return &added;
}

OwnerId SpoolUsage::OwnerOf(spool::Transaction& transaction, Account* client) {
  if (client == nullptr) return 0;
  if (client->owner != 0) return client->owner;
  OwnerId id = 1;
  while (owners_.contains(id)) ++id;
  client->owner = id;
  Attach(owners_[id], *client);
  transaction.Put(OwnerKey(kOwnerPrefix, id), Encode(0, client->name));
  return id;
}

void SpoolUsage::Keep(const Room& room) {
  room.topic->kept += room.bytes;
  if (room.client != nullptr) room.client->kept += room.bytes;
}

void SpoolUsage::GiveBack(const Room& room) {
  room.topic->kept -= room.bytes;
  if (room.client != nullptr) room.client->kept -= room.bytes;
}

void SpoolUsage::Pin(const Room& room) {
  if (room.client != nullptr) ++room.client->pinned;
}

void SpoolUsage::Unpin(const Room& room) {
  if (room.client != nullptr) --room.client->pinned;
}

void SpoolUsage::Append(spool::StreamId stream, OwnerId owner, uint64_t bytes) {
  const auto add = [bytes](Counts& counts) {
    counts.appended += bytes;
    if (counts.account != nullptr) counts.account->held += static_cast<int64_t>(bytes);
  };
  add(streams_[stream.value()]);
  if (owner == 0) return;
  if (const auto found = owners_.find(owner); found != owners_.end()) add(found->second);
}

void SpoolUsage::Apply(spool::Transaction& transaction, spool::StreamId stream, int64_t confirmed,
                       const Release& release) {
  const auto take = [&](Counts& counts, uint64_t bytes, std::string key) {
    counts.released += bytes;
    if (counts.account != nullptr) counts.account->held -= static_cast<int64_t>(bytes);
    transaction.Put(key, Encode(counts.released));
  };
  Counts& counts = streams_[stream.value()];
  // Nothing of the stream waits: whatever was not counted before is gone, too.
  const bool drained = confirmed == transaction.EndOffset(stream);
  if (release.bytes > 0 || (drained && counts.held() > 0)) {
    take(counts, drained ? counts.appended - counts.released : release.bytes,
         StreamKey(kReleasedPrefix, stream));
  }
  for (const auto& [owner, bytes] : release.owners) {
    if (const auto found = owners_.find(owner); found != owners_.end()) {
      take(found->second, bytes, OwnerKey(kOwnerReleasedPrefix, owner));
    }
  }
}

void SpoolUsage::Load(const spool::StateView& state) {
  std::unordered_map<uint32_t, std::string> names;
  for (const auto& [id, counts] : streams_) {
    if (counts.account != nullptr) names[id] = counts.account->name;
  }
  for (auto& [name, account] : topics_) account.held = 0;
  for (auto& [name, account] : clients_) {
    account.held = 0;
    account.owner = 0;
  }
  streams_.clear();
  owners_.clear();
  state.ForEach(kAppendedPrefix, [&](std::string_view key, std::string_view value) {
    const auto stream = ParseStreamKey(kAppendedPrefix, key);
    if (stream) streams_[stream->value()].appended = Decode(value).value_or(0);
  });
  state.ForEach(kReleasedPrefix, [&](std::string_view key, std::string_view value) {
    const auto stream = ParseStreamKey(kReleasedPrefix, key);
    if (stream) streams_[stream->value()].released = Decode(value).value_or(0);
  });
  for (const auto& [id, least] : emptied_) {
    streams_[id].released = std::max(streams_[id].released, least);
  }
  state.ForEach(kOwnerPrefix, [&](std::string_view key, std::string_view value) {
    const OwnerId owner = ParseOwnerKey(kOwnerPrefix, key);
    const auto appended = Decode(value);
    if (owner == 0 || !appended) return;
    Counts& counts = owners_[owner];
    counts.appended = *appended;
    const auto released = state.Get(OwnerKey(kOwnerReleasedPrefix, owner));
    counts.released = Decode(released.value_or("")).value_or(0);
    if (const auto least = owners_emptied_.find(owner); least != owners_emptied_.end())
      counts.released = std::max(counts.released, least->second);
    const std::string name(value.substr(9));
    Account& account = clients_[name];
    account.name = name;
    account.owner = owner;
    if (const ClientPolicy* policy = policies_->ForClient(name)) account.client = *policy;
    Attach(counts, account);
  });
  for (const auto& [id, name] : names) Topic(spool::StreamId(id), name);
}

void SpoolUsage::Replay(const spool::EntryInfo& entry, OwnerId owner) {
  Append(entry.stream, owner, entry.bytes);
}

bool SpoolUsage::SetEmpty(Counts& counts) {
  if (counts.held() == 0) return false;
  if (counts.account != nullptr) counts.account->held -= counts.held();
  counts.released = counts.appended;
  return true;
}

void SpoolUsage::SetEmpty(spool::StreamId stream) {
  Counts& counts = streams_[stream.value()];
  if (SetEmpty(counts)) emptied_[stream.value()] = counts.released;
}

void SpoolUsage::SetAllEmpty() {
  for (auto& [owner, counts] : owners_) {
    if (SetEmpty(counts)) owners_emptied_[owner] = counts.released;
  }
}

void SpoolUsage::PutEmpty(spool::Transaction& transaction) const {
  for (const auto& [id, least] : emptied_) {
    transaction.Put(StreamKey(kReleasedPrefix, spool::StreamId(id)),
                    Encode(streams_.at(id).released));
  }
  for (const auto& [owner, least] : owners_emptied_) {
    const auto found = owners_.find(owner);
    if (found == owners_.end()) continue;
    transaction.Put(OwnerKey(kOwnerReleasedPrefix, owner), Encode(found->second.released));
  }
}

uint64_t SpoolUsage::held() const {
  uint64_t held = 0;
  for (const auto& [name, topic] : topics_)
    held += static_cast<uint64_t>(std::max<int64_t>(topic.held, 0));
  return held;
}

void SpoolUsage::Checkpoint(spool::Transaction& transaction) {
  PutEmpty(transaction);
  for (const auto& [id, counts] : streams_) {
    transaction.Put(StreamKey(kAppendedPrefix, spool::StreamId(id)), Encode(counts.appended));
  }
  for (auto owner = owners_.begin(); owner != owners_.end();) {
    const std::string key = OwnerKey(kOwnerPrefix, owner->first);
    if (owner->second.held() > 0) {
      transaction.Put(key, Encode(owner->second.appended, owner->second.account->name));
      ++owner;
      continue;
    }
    // Nothing of it waits: the number may go to another client.
    owner->second.account->owner = 0;
    owners_emptied_.erase(owner->first);
    transaction.Erase(key);
    transaction.Erase(OwnerKey(kOwnerReleasedPrefix, owner->first));
    owner = owners_.erase(owner);
  }
  std::erase_if(clients_, [](const auto& client) {
    const Account& account = client.second;
    return account.owner == 0 && account.waiting == 0 && account.kept == 0 && account.pinned == 0;
  });
}

}  // namespace holdfast::agent
