#include "kafka/api/alter_client_quotas.h"
#include "kafka/api/alter_user_scram_credentials.h"
#include "kafka/api/create_acls.h"
#include "kafka/api/create_delegation_token.h"
#include "kafka/api/delete_acls.h"
#include "kafka/api/describe_acls.h"
#include "kafka/api/describe_client_quotas.h"
#include "kafka/api/describe_delegation_token.h"
#include "kafka/api/describe_user_scram_credentials.h"
#include "kafka/api/expire_delegation_token.h"
#include "kafka/api/renew_delegation_token.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(DescribeAcls);
HF_KAFKA_API(CreateAcls);
HF_KAFKA_API(DeleteAcls);
HF_KAFKA_API(DescribeClientQuotas);
HF_KAFKA_API(AlterClientQuotas);
HF_KAFKA_API(DescribeUserScramCredentials);
HF_KAFKA_API(AlterUserScramCredentials);
HF_KAFKA_API(CreateDelegationToken);
HF_KAFKA_API(RenewDelegationToken);
HF_KAFKA_API(ExpireDelegationToken);
HF_KAFKA_API(DescribeDelegationToken);

}  // namespace holdfast::kafka
