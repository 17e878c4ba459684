#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/sync_group.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(Heartbeat);
HF_KAFKA_API(JoinGroup);
HF_KAFKA_API(SyncGroup);
HF_KAFKA_API(LeaveGroup);
HF_KAFKA_API(DescribeGroups);
HF_KAFKA_API(ListGroups);
HF_KAFKA_API(DeleteGroups);
HF_KAFKA_API(ConsumerGroupHeartbeat);
HF_KAFKA_API(ConsumerGroupDescribe);

}  // namespace holdfast::kafka
