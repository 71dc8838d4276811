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
