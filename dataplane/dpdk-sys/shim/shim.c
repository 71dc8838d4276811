#include "shim.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include <rte_prefetch.h>

uint16_t sluice_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	const uint16_t got = rte_eth_rx_burst(port, queue, frames, n);
	for (uint16_t i = 0; i < got; i++)
		rte_prefetch0(rte_pktmbuf_mtod(frames[i], void *));
	return got;
}

uint16_t sluice_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, frames, n);
}

struct rte_mbuf *sluice_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void sluice_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int sluice_mbuf_linearize(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

int sluice_mbuf_append_segment(struct rte_mbuf *mbuf, struct rte_mempool *pool, uint16_t len)
{
	struct rte_mbuf *tail = rte_pktmbuf_alloc(pool);
	if (tail == NULL)
		return -ENOMEM;
	char *bytes = rte_pktmbuf_append(tail, len);
	if (bytes == NULL || rte_pktmbuf_chain(mbuf, tail) != 0) {
		rte_pktmbuf_free(tail);
		return -EOVERFLOW;
	}
	memset(bytes, 0, len);
	return 0;
}

void sluice_mbuf_refcnt_add(struct rte_mbuf *mbuf, int16_t n)
{
	rte_mbuf_refcnt_update(mbuf, n);
}

int sluice_errno(void)
{
	return rte_errno;
}

uint32_t sluice_lcore_id(void)
{
	return rte_lcore_id();
}

int sluice_pin_thread(uint32_t cpu)
{
	rte_cpuset_t set;
	if (cpu >= CPU_SETSIZE)
		return EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* pthread's own: rte_thread_set_affinity reports no failure for a thread that has
	 * no lcore id yet. */
	return pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

uint32_t sluice_interface_index(const char *name)
{
	return if_nametoindex(name);
}

bool sluice_is_packet_socket(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_PACKET;
}

uint32_t sluice_packet_socket_drops(int fd)
{
	/* Of a ring of any version the kernel fills in these two first. */
	struct tpacket_stats stats = { 0 };
	socklen_t len = sizeof(stats);
	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) != 0)
		return 0;
	return stats.tp_drops;
}

struct sluice_mbuf_layout sluice_mbuf_layout_of_c(void)
{
	const struct sluice_mbuf_layout layout = {
		.size = sizeof(struct rte_mbuf),
		.align = _Alignof(struct rte_mbuf),
		.buf_addr = offsetof(struct rte_mbuf, buf_addr),
		.data_off = offsetof(struct rte_mbuf, data_off),
		.refcnt = offsetof(struct rte_mbuf, refcnt),
		.nb_segs = offsetof(struct rte_mbuf, nb_segs),
		.ol_flags = offsetof(struct rte_mbuf, ol_flags),
		.pkt_len = offsetof(struct rte_mbuf, pkt_len),
		.data_len = offsetof(struct rte_mbuf, data_len),
		.buf_len = offsetof(struct rte_mbuf, buf_len),
	};
	return layout;
}

static const uint64_t spread_by = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;

uint16_t sluice_queue_pairs_max(uint16_t port)
{
	struct rte_eth_dev_info info;
	if (rte_eth_dev_info_get(port, &info) != 0)
		return 0;
	return info.max_rx_queues < info.max_tx_queues ? info.max_rx_queues : info.max_tx_queues;
}

int sluice_configure(uint16_t port, uint16_t queues, uint32_t mtu, const uint8_t *key)
{
	struct rte_eth_dev_info info;
	int failed = rte_eth_dev_info_get(port, &info);
	if (failed)
		return failed;
	struct rte_eth_conf conf;
	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = mtu;
	uint8_t own[SLUICE_RSS_KEY_LEN];
	memcpy(own, key, sizeof(own));
	const uint64_t fields = info.flow_type_rss_offloads & spread_by;
	if (queues > 1 && fields != 0 && info.hash_key_size <= sizeof(own)) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_key = own;
		conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size ? info.hash_key_size : 40;
		conf.rx_adv_conf.rss_conf.rss_hf = fields;
	}
	return rte_eth_dev_configure(port, queues, queues, &conf);
}

/* The groups of a table of this size; 0 if there is none that we can write. */
static uint16_t groups_of(const struct rte_eth_dev_info *info)
{
	const uint16_t size = info->reta_size;
	if (size % RTE_ETH_RETA_GROUP_SIZE != 0 || size > RTE_ETH_RSS_RETA_SIZE_512)
		return 0;
	return size / RTE_ETH_RETA_GROUP_SIZE;
}

#define GROUPS_MAX (RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE)

int sluice_spread(uint16_t port, uint16_t queues, uint16_t lanes, const uint8_t *key)
{
	struct rte_eth_dev_info info;
	const int failed = rte_eth_dev_info_get(port, &info);
	if (failed)
		return failed;
	const uint16_t groups = groups_of(&info);
	if (queues < 2 || lanes < queues || groups == 0 || (info.flow_type_rss_offloads & spread_by) == 0)
		return -ENOTSUP;
	/* Some drivers take no key before the start. */
	uint8_t own[SLUICE_RSS_KEY_LEN];
	memcpy(own, key, sizeof(own));
	struct rte_eth_rss_conf conf = {
		.rss_key = own,
		.rss_key_len = info.hash_key_size ? info.hash_key_size : 40,
		.rss_hf = info.flow_type_rss_offloads & spread_by,
	};
	const int unkeyed = info.hash_key_size > sizeof(own) ? -ENOTSUP : rte_eth_dev_rss_hash_update(port, &conf);
	if (unkeyed)
		return unkeyed;
	struct rte_eth_rss_reta_entry64 table[GROUPS_MAX];
	memset(table, 0, sizeof(table));
	for (uint16_t i = 0; i < info.reta_size; i++) {
		struct rte_eth_rss_reta_entry64 *group = &table[i / RTE_ETH_RETA_GROUP_SIZE];
		group->mask = UINT64_MAX;
		group->reta[i % RTE_ETH_RETA_GROUP_SIZE] = i % lanes % queues;
	}
	return rte_eth_dev_rss_reta_update(port, table, info.reta_size);
}

int sluice_spreads(uint16_t port, uint8_t *key, uint8_t *key_len, uint16_t *queues, uint16_t n)
{
	struct rte_eth_dev_info info;
	int failed = rte_eth_dev_info_get(port, &info);
	if (failed)
		return failed;
	const uint16_t groups = groups_of(&info);
	if (groups == 0 || n > info.reta_size)
		return -ENOTSUP;
	struct rte_eth_rss_conf conf = { .rss_key = key, .rss_key_len = SLUICE_RSS_KEY_LEN };
	failed = rte_eth_dev_rss_hash_conf_get(port, &conf);
	if (failed)
		return failed;
	*key_len = conf.rss_key_len;
	struct rte_eth_rss_reta_entry64 table[GROUPS_MAX];
	memset(table, 0, sizeof(table));
	for (uint16_t i = 0; i < groups; i++)
		table[i].mask = UINT64_MAX;
	failed = rte_eth_dev_rss_reta_query(port, table, info.reta_size);
	for (uint16_t i = 0; !failed && i < n; i++)
		queues[i] = table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	return failed;
}
