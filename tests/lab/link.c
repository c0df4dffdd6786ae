/* Joins two network namespaces by a link with a rate, a delay and a queue.
 *
 *     link NETNS-A DEVICE-A NETNS-B DEVICE-B MBIT/S ONE-WAY-MS QUEUE-MS
 *
 * Makes one TUN device in each namespace and carries packets between them. It prints "up" when both exist.
 * Stopped (SIGSTOP) it loses nothing but is silent, killed it takes the link with it. Large segments are passed
 * on unsegmented (GSO), or user space could not follow a gigabit; their time on the wire is that of the packets
 * they would have been.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1 << 15, LARGEST = 66000, FRAME = 38, HEADERS = 52 };

struct packet {
    int64_t due;
    int length;
    unsigned char *bytes;
};

/* One direction. The thread that reads fills the ring, the one that writes empties it. */
struct direction {
    int from, to;
    double ns_per_byte;
    int64_t delay, queue, free_at;
    struct packet ring[SLOTS];
    unsigned head, tail;
    pthread_mutex_t lock;
    pthread_cond_t filled;
};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int open_device(const char *netns, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "/var/run/netns/%s", netns);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET))
        err(1, "network namespace %s", netns);
    close(space);
    int device = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (device < 0)
        err(1, "/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    int header = sizeof(struct virtio_net_hdr);
    if (ioctl(device, TUNSETIFF, &request) || ioctl(device, TUNSETVNETHDRSZ, &header) ||
        ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
        err(1, "device %s", name);
    return device;
}

/* Bytes on the wire: each segment has headers of its own, and Ethernet's frame around it. */
static double wire_size(const unsigned char *bytes, int length) {
    struct virtio_net_hdr header;
    memcpy(&header, bytes, sizeof header);
    length -= sizeof header;
    int segments = 1;
    if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE && header.gso_size)
        segments = (length - header.hdr_len + header.gso_size - 1) / header.gso_size;
    return length + (segments - 1) * (double)HEADERS + segments * (double)FRAME;
}

static void *take(void *argument) {
    struct direction *way = argument;
    unsigned char *bytes = malloc(LARGEST);
    for (;;) {
        int length = read(way->from, bytes, LARGEST);
        if (length <= 0)
            continue;
        int64_t time = now();
        if (way->free_at < time)
            way->free_at = time;
        pthread_mutex_lock(&way->lock);
        unsigned next = (way->head + 1) % SLOTS;
        if (way->free_at - time <= way->queue && next != way->tail) {
            way->free_at += wire_size(bytes, length) * way->ns_per_byte;
            way->ring[way->head] = (struct packet){way->free_at + way->delay, length, bytes};
            way->head = next;
            bytes = malloc(LARGEST);
            pthread_cond_signal(&way->filled);
        }
        pthread_mutex_unlock(&way->lock);
    }
    return NULL;
}

static void *give(void *argument) {
    struct direction *way = argument;
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        pthread_mutex_lock(&way->lock);
        while (way->head == way->tail)
            pthread_cond_wait(&way->filled, &way->lock);
        struct packet packet = way->ring[way->tail];
        way->tail = (way->tail + 1) % SLOTS;
        pthread_mutex_unlock(&way->lock);
        struct timespec due = {packet.due / 1000000000LL, packet.due % 1000000000LL};
        if (packet.due > now() + 20000)
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        if (write(way->to, packet.bytes, packet.length) < 0) {
            /* The device is down, or its receiver refuses: lost, as on a wire. */
        }
        free(packet.bytes);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 8)
        errx(2, "usage: link NETNS-A DEVICE-A NETNS-B DEVICE-B MBIT/S ONE-WAY-MS QUEUE-MS");
    int a = open_device(arguments[1], arguments[2]), b = open_device(arguments[3], arguments[4]);
    struct direction *ways = calloc(2, sizeof *ways);
    pthread_t thread;
    for (int number = 0; number < 2; number++) {
        struct direction *way = ways + number;
        way->from = number ? b : a;
        way->to = number ? a : b;
        way->ns_per_byte = 8000 / atof(arguments[5]);
        way->delay = atof(arguments[6]) * 1e6;
        way->queue = atof(arguments[7]) * 1e6;
        pthread_mutex_init(&way->lock, NULL);
        pthread_cond_init(&way->filled, NULL);
        pthread_create(&thread, NULL, take, way);
        pthread_create(&thread, NULL, give, way);
    }
    puts("up");
    fflush(stdout);
    pause();
    return 0;
}
