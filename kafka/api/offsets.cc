#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(OffsetCommit);
HF_KAFKA_API(OffsetFetch);
HF_KAFKA_API(OffsetDelete);

}  // namespace holdfast::kafka
