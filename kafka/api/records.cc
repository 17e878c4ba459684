#include "kafka/api/describe_producers.h"
#include "kafka/api/fetch.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/offset_for_leader_epoch.h"
#include "kafka/api/produce.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(Fetch);
template base::Buffer EncodeResponseAround<FetchResponse>(const FetchResponse&, int16_t, int32_t,
                                                          std::vector<Gap>*);
HF_KAFKA_API(Produce);
HF_KAFKA_API(ListOffsets);
HF_KAFKA_API(OffsetForLeaderEpoch);
HF_KAFKA_API(DescribeProducers);
HF_KAFKA_API(InitProducerId);

}  // namespace holdfast::kafka
