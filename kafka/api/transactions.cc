#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/describe_transactions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/api/write_txn_markers.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(AddPartitionsToTxn);
HF_KAFKA_API(AddOffsetsToTxn);
HF_KAFKA_API(EndTxn);
HF_KAFKA_API(TxnOffsetCommit);
HF_KAFKA_API(WriteTxnMarkers);
HF_KAFKA_API(DescribeTransactions);
HF_KAFKA_API(ListTransactions);

}  // namespace holdfast::kafka
