/* What Rust can't call: DPDK's static inlines, thread-local variables and macros.
 *
 * A burst crosses here once for receiving and once for sending. Per frame nothing crosses
 * but the free of a dropped one and the allocation of one that the dataplane originates.
 */
#ifndef SLUICE_SHIM_H
#define SLUICE_SHIM_H

#include <stdbool.h>

#include <rte_acl.h>
#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_thread.h>

/* Receives at most n frames and prefetches the first line of each. */
uint16_t sluice_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);

/* Sends frames; those from the returned index on were not taken. */
uint16_t sluice_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);

/* An empty mbuf, or NULL. */
struct rte_mbuf *sluice_mbuf_alloc(struct rte_mempool *pool);

/* Gives an mbuf and its segments back. */
void sluice_mbuf_free(struct rte_mbuf *mbuf);

/* Joins the segments in the first: 0, or negative if there is no room. */
int sluice_mbuf_linearize(struct rte_mbuf *mbuf);

/* One more segment of len zeroed bytes from pool: 0, or negative. For tests. */
int sluice_mbuf_append_segment(struct rte_mbuf *mbuf, struct rte_mempool *pool, uint16_t len);

/* One more, or one less, holder of an mbuf. For tests. */
void sluice_mbuf_refcnt_add(struct rte_mbuf *mbuf, int16_t n);

/* rte_errno of the calling thread. */
int sluice_errno(void);

/* The lcore id of the calling thread; SLUICE_LCORE_NONE if it has none. */
uint32_t sluice_lcore_id(void);

/* Binds the calling thread to a CPU: 0 or an errno. */
int sluice_pin_thread(uint32_t cpu);

/* The index of a network interface in the calling thread's namespace; 0 if there is none. */
uint32_t sluice_interface_index(const char *name);

/* Whether a descriptor is a packet socket. */
bool sluice_is_packet_socket(int fd);

/* Frames that the kernel dropped at a packet socket since it was last asked. */
uint32_t sluice_packet_socket_drops(int fd);

/* Bytes of an RSS key that every card's fits in. */
#define SLUICE_RSS_KEY_LEN 52

/* Queue pairs that a device can have, at most; 0 if it doesn't say. */
uint16_t sluice_queue_pairs_max(uint16_t port);

/* Configures queue pairs and MTU (0: the driver's own). With several queues a device that can
 * spreads by the Toeplitz hash with this key over addresses and ports. 0 or negative. */
int sluice_configure(uint16_t port, uint16_t queues, uint32_t mtu, const uint8_t *key);

/* Has hashes by this key go to the queue hash % lanes % queues, in a device that spreads: 0 or
 * negative, -ENOTSUP if it has no table to write to. */
int sluice_spread(uint16_t port, uint16_t queues, uint16_t lanes, const uint8_t *key);

/* How a device spreads: the key and its length, and the queue of each of so many hashes. 0 or
 * negative. For tests. */
int sluice_spreads(uint16_t port, uint8_t *key, uint8_t *key_len, uint16_t *queues, uint16_t n);

/* Where the C compiler has the fields that Rust reads, and how long the struct is. */
struct sluice_mbuf_layout {
	size_t size, align;
	size_t buf_addr, data_off, refcnt, nb_segs, ol_flags, pkt_len, data_len, buf_len;
};
struct sluice_mbuf_layout sluice_mbuf_layout_of_c(void);

/* Macros that bindgen can't evaluate. */
static const uint64_t SLUICE_MBUF_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t SLUICE_MBUF_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t SLUICE_MBUF_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint32_t SLUICE_LCORE_NONE = LCORE_ID_ANY;
static const int32_t SLUICE_SOCKET_ANY = SOCKET_ID_ANY;

#endif
