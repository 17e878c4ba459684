// The offsets that groups commit within transactions: they wait with the transaction until it ends.
#include "broker/coordinator.h"
#include "broker/offset_check.h"
#include "broker/topic_changes.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;
using kafka::TxnOffsetCommitRequest;
using kafka::TxnOffsetCommitResponse;

constexpr int16_t kAbortableSince = 4;
// From here on the group is added to the transaction with its first offsets (KIP-890).
constexpr int16_t kAddsGroupSince = 5;

}  // namespace

// One TxnOffsetCommit on its way to the disk.
struct Coordinator::TransactionalCommit {
  explicit TransactionalCommit(Call<TxnOffsetCommitRequest> commit_call)
      : call(std::move(commit_call)), group(call.request.group_id) {}

  Call<TxnOffsetCommitRequest> call;
  const std::string group;
  TxnOffsetCommitResponse response;
  CommittedOffsets offsets;
  std::vector<ErrorCode*> errors;        // Of those offsets, in the response.
  ErrorCode refused = ErrorCode::kNone;  // By the rules of transactions.
};

void Coordinator::Handle(Call<TxnOffsetCommitRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  auto commit = std::make_unique<TransactionalCommit>(std::move(call));
  const TxnOffsetCommitRequest& request = commit->call.request;
  const ErrorCode error =
      ValidGroupId(request.group_id)
          ? MayCommitInTransaction(request.group_id, {request.member_id, request.group_instance_id},
                                   request.generation_id)
          : ErrorCode::kInvalidGroupId;
  for (AcceptedOffset& accepted : CheckOffsets(catalog_.topics(), request, /*by_id=*/false,
                                               loop_.WallClockMs(), &commit->response)) {
    commit->offsets[accepted.partition] = std::move(accepted.committed);
    commit->errors.push_back(accepted.error);
  }
  if (error != ErrorCode::kNone || commit->offsets.empty()) return FinishCommit(*commit, error);
  SubmitCommit(std::move(commit));
}

ErrorCode Coordinator::MayCommitInTransaction(std::string_view group_id, const MemberRef& who,
                                              int32_t epoch) {
  if (epoch >= 0 && !groups_.contains(group_id)) return ErrorCode::kIllegalGeneration;
  Entry& entry = FindOrMakeGroup(group_id);
  if (entry.group) return entry.group->MayCommitInTransaction(who, epoch);
  // Older producers, and those that know only the group's id, do not say for whom they commit.
  if (epoch < 0 && who.member_id.empty() && !who.instance_id) return ErrorCode::kNone;
  const ErrorCode error = entry.consumer->MayCommit(who.member_id, epoch, /*knows_epochs=*/true);
  // The one name that the response has for it.
  return error == ErrorCode::kStaleMemberEpoch ? ErrorCode::kIllegalGeneration : error;
}

void Coordinator::SubmitCommit(std::unique_ptr<TransactionalCommit> commit) {
  TransactionalCommit* const borrowed = commit.get();
  const auto arriving = arriving_.emplace(commit->group, Arriving::mapped_type());
  for (const auto& [partition, offset] : commit->offsets) arriving->second.push_back(partition);
  submitter_.Submit(std::make_unique<StateChange>(
      [this, borrowed](spool::Transaction& transaction) {
        const TxnOffsetCommitRequest& request = borrowed->call.request;
        const ProducerIdentity producer{request.producer_id, request.producer_epoch};
        Transactions& transactions = context_.log->transactions();
        borrowed->refused =
            borrowed->call.version() >= kAddsGroupSince
                ? transactions.AddGroup(transaction, request.transactional_id, producer,
                                        borrowed->group)
                : transactions.CheckGroup(request.transactional_id, producer, borrowed->group);
        if (borrowed->refused != ErrorCode::kNone) return;
        transactions.AddOffsets(transaction, request.transactional_id, borrowed->group,
                                borrowed->offsets);
      },
      [this, arriving, commit = std::move(commit)](const auto& result) mutable {
        const ErrorCode error =
            result ? commit->refused : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([this, error, arriving, commit = std::move(commit)] {
          arriving_.erase(arriving);
          FinishCommit(*commit, error);
        });
      }));
}

void Coordinator::FinishCommit(TransactionalCommit& commit, ErrorCode error) {
  error = ForVersion(error, commit.call.version(), kInNoVersion, kAbortableSince);
  if (error == ErrorCode::kNone) {
    Entry& group = FindOrMakeGroup(commit.group);
    for (const auto& [partition, offset] : commit.offsets) {
      group.pending[partition].insert(commit.call.request.producer_id);
    }
  } else {
    for (ErrorCode* partition_error : commit.errors) *partition_error = error;
    context_.metrics.errors.With(kafka::ErrorName(error)).Add();
  }
  commit.call.Respond(commit.response);
}

void Coordinator::OnTransactionEnded(EndedTransaction transaction) {
  loop_.AssertInLoop();
  for (auto& [group_id, offsets] : transaction.offsets) {
    if (groups_.find(group_id) == groups_.end() && offsets.empty()) continue;
    Entry& group = FindOrMakeGroup(group_id);  // Which may have been deleted meanwhile.
    for (auto at = group.pending.begin(); at != group.pending.end();) {
      at->second.erase(transaction.producer_id);
      at = at->second.empty() ? group.pending.erase(at) : std::next(at);
    }
    if (!transaction.committed) continue;
    context_.metrics.committed_offsets.Add(offsets.size());
    for (auto& [partition, offset] : offsets) group.offsets[partition] = std::move(offset);
  }
}

}  // namespace holdfast::broker
