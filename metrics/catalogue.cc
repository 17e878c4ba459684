#include "metrics/catalogue.h"

#include <array>

#include "metrics/stream_metrics.h"

namespace holdfast::metrics {
namespace {

constexpr std::array kSeconds{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                              0.1,    0.25,    0.5,    1.0,   2.5,    5.0,   10.0, 30.0};
// For what an outage of the tier can stretch to days.
constexpr std::array kLongSeconds{0.001, 0.005, 0.01,  0.05,   0.1,    0.5,     1.0,     5.0,
                                  10.0,  60.0,  300.0, 1800.0, 3600.0, 14400.0, 86400.0, 604800.0};
constexpr std::array kBytes{256.0,    1024.0,    4096.0,    16384.0,    65536.0,
                            262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0};
constexpr std::array kCounts{1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0};

}  // namespace

NetMetrics::NetMetrics(Registry& registry)
    : connections(
          registry.AddGauge({.name = "holdfast_net_connections", .help = "Connections open now."})),
      accepted(registry.AddCounter(
          {.name = "holdfast_net_accepted_total", .help = "Connections accepted."})),
      closed(registry.AddCounterFamily({.name = "holdfast_net_closed_total",
                                        .help = "Connections closed, by cause.",
                                        .label = "cause"})),
      accept_errors(registry.AddCounter(
          {.name = "holdfast_net_accept_errors_total",
           .help = "Failed calls of accept, such as for want of file descriptors."})),
      received_frames(registry.AddCounter(
          {.name = "holdfast_net_received_frames_total", .help = "Frames received."})),
      sent_frames(
          registry.AddCounter({.name = "holdfast_net_sent_frames_total", .help = "Frames sent."})),
      received_bytes(registry.AddCounter(
          {.name = "holdfast_net_received_bytes_total", .help = "Bytes read from sockets."})),
      sent_bytes(registry.AddCounter(
          {.name = "holdfast_net_sent_bytes_total", .help = "Bytes written to sockets."})),
      memory_in_flight_bytes(registry.AddCallbackGauge(
          {.name = "holdfast_net_memory_in_flight_bytes",
           .help = "Memory reserved for requests that are being read or answered."},
          CallbackGauge::Combine::kSum)),
      read_pauses(registry.AddCounter(
          {.name = "holdfast_net_read_pauses_total",
           .help = "Times a socket was not read further: no memory, too many requests in flight, "
                   "or a peer that does not read its answers."})),
      loop_turn_seconds_max(registry.AddCallbackGauge(
          {.name = "holdfast_net_loop_turn_max_seconds",
           .help = "Longest turn of an event loop in the last half to whole minute."},
          CallbackGauge::Combine::kMax)),
      slow_loop_turns(
          registry.AddCounter({.name = "holdfast_net_slow_loop_turns_total",
                               .help = "Turns of an event loop that took more than 50 ms."})),
      mailbox_tasks(
          registry.AddCallbackGauge({.name = "holdfast_net_mailbox_tasks",
                                     .help = "Tasks waiting in the mailboxes of event loops."},
                                    CallbackGauge::Combine::kSum)) {}

SpoolMetrics::SpoolMetrics(Registry& registry)
    : appended_records(registry.AddCounter(
          {.name = "holdfast_spool_appended_records_total", .help = "Records made durable."})),
      appended_bytes(registry.AddCounter({.name = "holdfast_spool_appended_bytes_total",
                                          .help = "Bytes of entries made durable."})),
      commits(
          registry.AddCounter({.name = "holdfast_spool_commits_total", .help = "Group commits."})),
      commit_bytes(registry.AddHistogram(
          {.name = "holdfast_spool_commit_bytes", .help = "Entry bytes of one group commit."},
          kBytes)),
      commit_entries(registry.AddHistogram(
          {.name = "holdfast_spool_commit_entries", .help = "Entries of one group commit."},
          kCounts)),
      commit_seconds(registry.AddHistogram(
          {.name = "holdfast_spool_commit_seconds",
           .help = "From the start of a group commit until its data is durable."},
          kSeconds)),
      sync_seconds(registry.AddHistogram(
          {.name = "holdfast_spool_sync_seconds", .help = "Writing and flushing a commit."},
          kSeconds)),
      segments(registry.AddGauge(
          {.name = "holdfast_spool_segments", .help = "Segments that hold entries."})),
      free_segments(
          registry.AddGauge({.name = "holdfast_spool_free_segments",
                             .help = "Segments retired or prepared that wait to be used."})),
      disk_bytes(registry.AddGauge(
          {.name = "holdfast_spool_disk_bytes", .help = "Disk space taken by all segments."})),
      room_bytes(registry.AddCallbackGauge(
          {.name = "holdfast_spool_room_bytes",
           .help = "Disk space for entries beside the newest segment: as far as the limit and the "
                   "file system allow, and in segments that are used again."},
          CallbackGauge::Combine::kSum)),
      queue_bytes(registry.AddGauge(
          {.name = "holdfast_spool_queue_bytes", .help = "Entry bytes that wait for the writer."})),
      queue_operations(registry.AddGauge({.name = "holdfast_spool_queue_operations",
                                          .help = "Operations that wait for the writer."})),
      refused(registry.AddCounterFamily({.name = "holdfast_spool_refused_total",
                                         .help = "Operations refused, by cause.",
                                         .label = "cause"})),
      damaged_frames(registry.AddCounter({.name = "holdfast_spool_damaged_frames_total",
                                          .help = "Frames found damaged and set aside."})),
      damaged_segments(registry.AddCounter(
          {.name = "holdfast_spool_damaged_segments_total",
           .help = "Segment files found damaged; see the log for what is lost."})),
      reopens(registry.AddCounter(
          {.name = "holdfast_spool_reopens_total",
           .help = "Times a segment was closed and opened again after an error."})),
      errors(registry.AddCounterFamily({.name = "holdfast_spool_errors_total",
                                        .help = "Failures of the storage below, by cause.",
                                        .label = "cause"})),
      recycled_segments(registry.AddCounter(
          {.name = "holdfast_spool_recycled_segments_total", .help = "Segments used again."})),
      retired_segments(registry.AddCounter({.name = "holdfast_spool_retired_segments_total",
                                            .help = "Segments that nobody needed any more."})),
      reclaimed_bytes(registry.AddCounter({.name = "holdfast_spool_reclaimed_bytes_total",
                                           .help = "Disk space freed by writing segments anew "
                                                   "without what is trimmed or compacted."})) {}

BrokerMetrics::BrokerMetrics(Registry& registry)
    : requests(registry.AddCounterFamily(
          {.name = "holdfast_broker_requests_total", .help = "Requests, by api.", .label = "api"})),
      errors(registry.AddCounterFamily(
          {.name = "holdfast_broker_errors_total",
           .help = "Error codes answered, by their name in the Kafka protocol.",
           .label = "code",
           .values_max = 128})),
      produced_records(registry.AddCounter({.name = "holdfast_broker_produced_records_total",
                                            .help = "Records appended to partitions."})),
      produced_bytes(
          registry.AddCounter({.name = "holdfast_broker_produced_bytes_total",
                               .help = "Bytes of record batches appended to partitions."})),
      duplicate_batches(
          registry.AddCounter({.name = "holdfast_broker_duplicate_batches_total",
                               .help = "Batches not appended because they were there already."})),
      produce_seconds(
          registry.AddHistogram({.name = "holdfast_broker_produce_seconds",
                                 .help = "From the arrival of a produce request to its answer."},
                                kSeconds)),
      fetched_bytes(registry.AddCounter({.name = "holdfast_broker_fetched_bytes_total",
                                         .help = "Bytes of record batches sent to consumers."})),
      fetched_waiting_bytes(registry.AddCallbackGauge(
          {.name = "holdfast_broker_fetched_waiting_bytes",
           .help =
               "Memory for records on their way to consumers, without those sent from the disk."},
          CallbackGauge::Combine::kSum)),
      fetch_seconds(registry.AddHistogram({.name = "holdfast_broker_fetch_seconds",
                                           .help = "From the arrival of a fetch request to its "
                                                   "answer, the wait it asked for included."},
                                          kSeconds)),
      parked_fetches(registry.AddGauge({.name = "holdfast_broker_parked_fetches",
                                        .help = "Fetch requests that wait for records."})),
      fetch_sessions(registry.AddGauge({.name = "holdfast_broker_fetch_sessions",
                                        .help = "Incremental fetch sessions that are open."})),
      fetch_session_partitions(
          registry.AddGauge({.name = "holdfast_broker_fetch_session_partitions",
                             .help = "Partitions of all incremental fetch sessions."})),
      fetch_session_evictions(
          registry.AddCounter({.name = "holdfast_broker_fetch_session_evictions_total",
                               .help = "Fetch sessions that gave way to another one."})),
      topics(registry.AddGauge({.name = "holdfast_broker_topics", .help = "Topics."})),
      partitions(registry.AddGauge(
          {.name = "holdfast_broker_partitions", .help = "Partitions of all topics."})),
      groups(registry.AddGauge(
          {.name = "holdfast_broker_groups", .help = "Consumer groups that are known."})),
      members(registry.AddGauge(
          {.name = "holdfast_broker_members", .help = "Members of all consumer groups."})),
      rebalances(registry.AddCounter({.name = "holdfast_broker_rebalances_total",
                                      .help = "Rebalances of consumer groups begun."})),
      committed_offsets(registry.AddCounter({.name = "holdfast_broker_committed_offsets_total",
                                             .help = "Offsets that consumers committed."})),
      transactions(registry.AddCounterFamily({.name = "holdfast_broker_transactions_total",
                                              .help = "Transactions that have ended, by outcome.",
                                              .label = "outcome"})),
      compactions(registry.AddCounterFamily(
          {.name = "holdfast_broker_compactions_total",
           .help = "Rounds of compaction with something to do, by outcome: done, failed, or "
                   "postponed because much would be written for little.",
           .label = "outcome"})),
      sorted_segments(registry.AddCounter(
          {.name = "holdfast_broker_sorted_segments_total",
           .help = "Segments that were written anew with their records ordered by partition."})),
      login_failures(registry.AddCounter({.name = "holdfast_broker_login_failures_total",
                                          .help = "SASL exchanges that were refused."})) {}

AgentMetrics::AgentMetrics(Registry& registry)
    : requests(registry.AddCounterFamily({.name = "holdfast_agent_requests_total",
                                          .help = "Requests of local clients, by api.",
                                          .label = "api"})),
      refused(registry.AddCounterFamily({.name = "holdfast_agent_refused_total",
                                         .help = "Record batches refused, by cause.",
                                         .label = "cause"})),
      produce_seconds(
          registry.AddHistogram({.name = "holdfast_agent_produce_seconds",
                                 .help = "From the arrival of a produce request to its answer."},
                                kSeconds)),
      accepted_records(registry.AddCounter({.name = "holdfast_agent_accepted_records_total",
                                            .help = "Records checked and handed to the spool."})),
      accepted_bytes(registry.AddCounter(
          {.name = "holdfast_agent_accepted_bytes_total",
           .help = "Bytes of record batches checked and handed to the spool."})),
      acknowledged_records(registry.AddCounter(
          {.name = "holdfast_agent_acknowledged_records_total",
           .help = "Records acknowledged to clients or taken from outboxes, safe on this host's "
                   "disk."})),
      acknowledged_bytes(registry.AddCounter(
          {.name = "holdfast_agent_acknowledged_bytes_total",
           .help = "Bytes of record batches acknowledged to clients or taken from outboxes, safe "
                   "on this host's disk."})),
      forwarded_records(registry.AddCounter({.name = "holdfast_agent_forwarded_records_total",
                                             .help = "Records that the tier confirmed."})),
      forwarded_bytes(
          registry.AddCounter({.name = "holdfast_agent_forwarded_bytes_total",
                               .help = "Bytes of record batches that the tier confirmed."})),
      duplicate_batches(
          registry.AddCounter({.name = "holdfast_agent_duplicate_batches_total",
                               .help = "Batches that were a retry of one already in the spool."})),
      local_transactions(registry.AddCounterFamily(
          {.name = "holdfast_agent_local_transactions_total",
           .help = "Local transactions that have ended, by outcome: committed, aborted, fenced, "
                   "timed out, or lost in a restart; refused: attempts to begin one while too many "
                   "wait.",
           .label = "outcome"})),
      local_transaction_bytes(registry.AddGauge(
          {.name = "holdfast_agent_local_transaction_bytes",
           .help = "Bytes of record batches in memory that belong to open local transactions."})),
      undelivered_transactions(registry.AddGauge(
          {.name = "holdfast_agent_undelivered_transactions",
           .help = "Local transactions that are committed in the spool and not at the tier."})),
      upstream_transactions(registry.AddCounterFamily(
          {.name = "holdfast_agent_upstream_transactions_total",
           .help = "The agent's own transactions at the tier, by outcome: committed or failed.",
           .label = "outcome"})),
      oldest_undelivered_timestamp_seconds(registry.AddGauge(
          {.name = "holdfast_agent_oldest_undelivered_timestamp_seconds",
           .help = "When the oldest record that the tier has not confirmed was spooled, in seconds "
                   "since the Unix epoch; 0 if there is none."})),
      complete_until_timestamp_seconds(registry.AddGauge(
          {.name = "holdfast_agent_complete_until_timestamp_seconds",
           .help = "What was acknowledged before this time, in seconds since the Unix epoch, is at "
                   "the tier or listed as dropped."})),
      spooled_seconds(registry.AddHistogram(
          {.name = "holdfast_agent_spooled_seconds",
           .help = "Time in the spool, from commit to the confirmation of the tier."},
          kLongSeconds)),
      backlog_records(
          registry.AddGauge({.name = "holdfast_agent_backlog_records",
                             .help = "Records in the spool that the tier has not confirmed."})),
      backlog_bytes(
          registry.AddGauge({.name = "holdfast_agent_backlog_bytes",
                             .help = "Bytes in the spool that the tier has not confirmed."})),
      full(registry.AddCounterFamily(
          {.name = "holdfast_agent_full_total",
           .help = "Record batches that found no room, or the tier too slow, by what became of "
                   "them.",
           .label = "outcome"})),
      waiting_for_room(
          registry.AddGauge({.name = "holdfast_agent_waiting_for_room_requests",
                             .help = "Produce requests that wait for room in the spool."})),
      waiting_for_tier(registry.AddGauge(
          {.name = "holdfast_agent_waiting_for_tier_requests",
           .help = "Produce requests that wait for the tier, as their topics demand."})),
      throttle_seconds(registry.AddHistogram(
          {.name = "holdfast_agent_throttle_seconds",
           .help = "Time for which a connection is not read after a request over its rate."},
          kSeconds)),
      dropped_records(registry.AddCounterFamily({.name = "holdfast_agent_dropped_records_total",
                                                 .help = "Acknowledged records given up, by cause.",
                                                 .label = "cause"})),
      dead_letter_records(registry.AddCounterFamily(
          {.name = "holdfast_agent_dead_letter_records_total",
           .help = "Records that the tier refuses for good, set aside or put into the dead letter "
                   "topic, by cause.",
           .label = "cause"})),
      parked_streams(registry.AddGauge(
          {.name = "holdfast_agent_parked_streams",
           .help =
               "Partitions that are held until somebody changes rights, settings or records."})),
      forward_paused(registry.AddGauge(
          {.name = "holdfast_agent_forward_paused",
           .help = "1 while the schedule keeps what waits from the tier, else 0."})),
      forward_retries(registry.AddCounterFamily(
          {.name = "holdfast_agent_forward_retries_total",
           .help = "Produce requests to the tier that are tried again, by cause.",
           .label = "cause"})),
      forward_errors(registry.AddCounterFamily(
          {.name = "holdfast_agent_forward_errors_total",
           .help = "Failed produce requests to the tier, by cause: an error name of the Kafka "
                   "protocol or the kind of failure.",
           .label = "cause",
           .values_max = 128})),
      forward_seconds(registry.AddHistogram(
          {.name = "holdfast_agent_forward_seconds",
           .help = "From sending a produce request to the tier to its answer."},
          kSeconds)),
      forward_in_flight_bytes(
          registry.AddGauge({.name = "holdfast_agent_forward_in_flight_bytes",
                             .help = "Bytes sent to the tier and not yet answered."})),
      upstream_connected(
          registry.AddGauge({.name = "holdfast_agent_upstream_connected",
                             .help = "1 while a broker of the tier answers, else 0."})),
      upstream_connections(registry.AddGauge(
          {.name = "holdfast_agent_upstream_connections", .help = "Connections to the tier."})),
      upstream_connects(registry.AddCounter({.name = "holdfast_agent_upstream_connects_total",
                                             .help = "Attempts to connect to the tier."})),
      upstream_errors(
          registry.AddCounterFamily({.name = "holdfast_agent_upstream_errors_total",
                                     .help = "Connections to the tier lost or not made, by cause.",
                                     .label = "cause"})),
      proxied_connections(
          registry.AddGauge({.name = "holdfast_agent_proxied_connections",
                             .help = "Local clients with a connection of their own to the tier."})),
      proxied_requests(registry.AddCounter({.name = "holdfast_agent_proxied_requests_total",
                                            .help = "Requests passed through to the tier."})),
      local_login_failures(
          registry.AddCounter({.name = "holdfast_agent_login_failures_total",
                               .help = "SASL exchanges of local clients that the agent refused."})),
      certificate_expiry_timestamp_seconds(registry.AddGaugeFamily(
          {.name = "holdfast_agent_certificate_expiry_timestamp_seconds",
           .help = "When the certificate in use, or one between it and a CA, ends; by who is shown "
                   "it, clients (listener) or the tier (upstream).",
           .label = "side"})),
      draining(registry.AddGauge(
          {.name = "holdfast_agent_draining",
           .help = "1 from the signal to stop on, while the tier gets time to take what waits."})) {
}

namespace {

// By topic and partition.
constexpr SeriesInfo OfStream(SeriesType type, std::string_view name, std::string_view help) {
  return {{.name = name, .help = help, .label = "topic,partition"}, type};
}

}  // namespace

constinit const SeriesInfo StreamMetrics::kShown{
    {.name = "holdfast_agent_streams_shown", .help = "Streams on this page."}, SeriesType::kGauge};
constinit const SeriesInfo StreamMetrics::kLeftOut{
    {.name = "holdfast_agent_streams_left_out",
     .help = "Streams that belong on this page and are not, as it has at most 10000, the first by "
             "name."},
    SeriesType::kGauge};
constinit const SeriesInfo StreamMetrics::kCompleteUntilTimestampSeconds =
    OfStream(SeriesType::kGauge, "holdfast_agent_stream_complete_until_timestamp_seconds",
             "The commit point in time: what was acknowledged before, in seconds since the Unix "
             "epoch, is at the tier or listed as dropped.");
constinit const SeriesInfo StreamMetrics::kConfirmedOrdinal =
    OfStream(SeriesType::kGauge, "holdfast_agent_stream_confirmed_ordinal",
             "The commit point: records below this ordinal are at the tier or listed as dropped.");
constinit const SeriesInfo StreamMetrics::kTierOffset = OfStream(
    SeriesType::kGauge, "holdfast_agent_stream_tier_offset",
    "The tier's offset behind the last of those that it has; not there while it is not known.");
constinit const SeriesInfo StreamMetrics::kBacklogRecords =
    OfStream(SeriesType::kGauge, "holdfast_agent_stream_backlog_records",
             "Records from the commit point on, which the tier has not confirmed.");
constinit const SeriesInfo StreamMetrics::kParked =
    OfStream(SeriesType::kGauge, "holdfast_agent_stream_parked",
             "1 while it is held until somebody changes rights, settings or records, else 0.");
constinit const SeriesInfo StreamMetrics::kDroppedRecords = OfStream(
    SeriesType::kCounter, "holdfast_agent_stream_dropped_records_total",
    "Acknowledged records given up or set aside as dead letters, since the spool was made.");
constinit const SeriesInfo StreamMetrics::kDroppedBytes =
    OfStream(SeriesType::kCounter, "holdfast_agent_stream_dropped_bytes_total",
             "Bytes of the records given up or set aside as dead letters.");

std::vector<SeriesInfo> StreamMetrics::List() {
  return {kShown,
          kLeftOut,
          kCompleteUntilTimestampSeconds,
          kConfirmedOrdinal,
          kTierOffset,
          kBacklogRecords,
          kParked,
          kDroppedRecords,
          kDroppedBytes};
}

OutboxMetrics::OutboxMetrics(Registry& registry)
    : connected(
          registry.AddGaugeFamily({.name = "holdfast_outbox_connected",
                                   .help = "1 while the rows of the source can be read, else 0.",
                                   .label = "source"})),
      taken_rows(registry.AddCounterFamily({.name = "holdfast_outbox_taken_rows_total",
                                            .help = "Rows whose events are in the spool.",
                                            .label = "source"})),
      quarantined_rows(
          registry.AddCounterFamily({.name = "holdfast_outbox_quarantined_rows_total",
                                     .help = "Rows that cannot be sent, moved to the quarantine.",
                                     .label = "source"})),
      errors(registry.AddCounterFamily({.name = "holdfast_outbox_errors_total",
                                        .help = "Failed calls of the database.",
                                        .label = "source"})),
      oldest_row_timestamp_seconds(registry.AddGaugeFamily(
          {.name = "holdfast_outbox_oldest_row_timestamp_seconds",
           .help = "When the oldest row that is not taken yet was written or, if rows have no "
                   "timestamp, seen first; 0 if there is none.",
           .label = "source"})),
      waiting_rows(registry.AddGaugeFamily(
          {.name = "holdfast_outbox_waiting_rows",
           .help = "Rows not taken yet, of the parts that this agent owns; counted up to 100000.",
           .label = "source"})),
      foreign_rows(registry.AddGaugeFamily(
          {.name = "holdfast_outbox_foreign_rows",
           .help = "Rows in parts of the table that another agent owns; counted up to 100000.",
           .label = "source"})),
      quarantine_rows(registry.AddGaugeFamily({.name = "holdfast_outbox_quarantine_rows",
                                               .help = "Rows that stand in the quarantine.",
                                               .label = "source"})),
      partition_lag_seconds(registry.AddGaugeFamily(
          {.name = "holdfast_outbox_partition_lag_seconds",
           .help =
               "Age of the oldest row of a part of the table that this agent owns; 0 of others.",
           .label = "partition",
           .values_max = 4096})),  // The configuration bounds them: 1024 for each source.
      read_seconds(registry.AddHistogramFamily({.name = "holdfast_outbox_read_seconds",
                                                .help = "Time to read the next rows.",
                                                .label = "source"},
                                               kSeconds)),
      remove_seconds(
          registry.AddHistogramFamily({.name = "holdfast_outbox_remove_seconds",
                                       .help = "Time to remove rows whose events are in the spool.",
                                       .label = "source"},
                                      kSeconds)) {}

HalfMessageMetrics::HalfMessageMetrics(Registry& registry)
    : messages(registry.AddGaugeFamily({.name = "holdfast_half_messages",
                                        .help = "Half messages that are not resolved, by state.",
                                        .label = "state"})),
      outcomes(registry.AddCounterFamily({.name = "holdfast_half_outcomes_total",
                                          .help = "Half messages resolved or parked.",
                                          .label = "outcome"})),
      checks(registry.AddCounterFamily(
          {.name = "holdfast_half_checks_total",
           .help = "Questions to services about half messages, by what they said.",
           .label = "answer"})) {}

InjectMetrics::InjectMetrics(Registry& registry)
    : reviews(registry.AddCounterFamily(
          {.name = "holdfast_inject_reviews_total",
           .help = "Admission reviews answered, by what became of the pod.",
           .label = "outcome"})),
      review_seconds(registry.AddHistogram({.name = "holdfast_inject_review_seconds",
                                            .help = "Time to answer an admission review, once it "
                                                    "is read."},
                                           kSeconds)),
      certificate_expiry_timestamp_seconds(registry.AddGauge(
          {.name = "holdfast_inject_certificate_expiry_timestamp_seconds",
           .help = "When the webhook's certificate, or one between it and a CA, ends."})),
      configuration_refused(registry.AddGauge(
          {.name = "holdfast_inject_configuration_refused",
           .help = "1 while the newest configuration is wrong and the one before is in use."})) {}

OrphanMetrics::OrphanMetrics(Registry& registry)
    : spools(registry.AddGaugeFamily(
          {.name = "holdfast_orphans_spools",
           .help = "Spools on this host whose agents are gone, by state: waiting for its time or "
                   "turn, draining, left (something is, and is tried again), kept (nothing is left "
                   "to deliver, and yet it has to stay).",
           .label = "state"})),
      left_records(registry.AddGauge(
          {.name = "holdfast_orphans_left_records",
           .help = "Records that wait in orphaned spools, as far as they were looked into."})),
      drained_records(
          registry.AddCounter({.name = "holdfast_orphans_drained_records_total",
                               .help = "Records delivered to the tier from orphaned spools."})),
      dropped_records(registry.AddCounter(
          {.name = "holdfast_orphans_dropped_records_total",
           .help = "Acknowledged records in orphaned spools given up: too old, or damaged."})),
      removed(registry.AddCounter({.name = "holdfast_orphans_removed_total",
                                   .help = "Orphaned spools that were removed, empty."})) {}

}  // namespace holdfast::metrics
