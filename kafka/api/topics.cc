#include "kafka/api/alter_configs.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(CreateTopics);
HF_KAFKA_API(DeleteTopics);
HF_KAFKA_API(DeleteRecords);
HF_KAFKA_API(CreatePartitions);
HF_KAFKA_API(DescribeConfigs);
HF_KAFKA_API(AlterConfigs);
HF_KAFKA_API(IncrementalAlterConfigs);

}  // namespace holdfast::kafka
