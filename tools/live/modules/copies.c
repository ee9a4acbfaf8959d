// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A kernel module for live guests: has a DMA channel of one device copy memory, as any client of the kernel's DMA engine interface does, and
 * says in the kernel's log what came of it. Debian builds none that would.
 */
#define pr_fmt(format) "remora: " format

#include <linux/completion.h>
#include <linux/crc32.h>
#include <linux/dma-mapping.h>
#include <linux/dmaengine.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>

/* Copies that are under way at the same time. */
#define TOGETHER 8
#define POISON 0x5a
/* The computer that all this runs on may be busy. */
#define PATIENCE (60 * HZ)

static char *device = "";
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "the device whose channel copies, as 0000:00:04.0");

static bool faults;
module_param(faults, bool, 0444);
MODULE_PARM_DESC(faults, "a copy from an address that is not mapped any more is tried as well");

/* Everything is done twice, with sources and targets exchanged: what is known of an address from before is wrong then. */
#define ROUNDS 2

/* Bytes of a copy: less than a page and more, aligned and not. */
static const size_t sizes[] = { 1, 64, 4095, 4096, 12345, 65536, 1048576 };

struct copy {
	struct completion done;
	enum dmaengine_tx_result result;
	u8 *source;
	u8 *target;
	dma_addr_t from;
	dma_addr_t to;
};

static unsigned int copied;
static size_t bytes;
static u32 given = ~0, taken = ~0;

static void on_copied(void *data, const struct dmaengine_result *result)
{
	struct copy *copy = data;

	copy->result = result ? result->result : DMA_TRANS_NOERROR;
	complete(&copy->done);
}

static int submit(struct dma_chan *channel, struct copy *copy, size_t size)
{
	struct dma_async_tx_descriptor *tx;

	init_completion(&copy->done);
	tx = dmaengine_prep_dma_memcpy(channel, copy->to, copy->from, size, DMA_PREP_INTERRUPT);
	if (!tx)
		return -EIO;
	tx->callback_result = on_copied;
	tx->callback_param = copy;
	return dma_submit_error(dmaengine_submit(tx)) ? -EIO : 0;
}

static int start(struct dma_chan *channel, struct device *dma, struct copy *copy, size_t size)
{
	int error;

	get_random_bytes(copy->source, size);
	memset(copy->target, POISON, size);
	copy->from = dma_map_single(dma, copy->source, size, DMA_TO_DEVICE);
	if (dma_mapping_error(dma, copy->from))
		return -ENOMEM;
	copy->to = dma_map_single(dma, copy->target, size, DMA_FROM_DEVICE);
	if (dma_mapping_error(dma, copy->to)) {
		dma_unmap_single(dma, copy->from, size, DMA_TO_DEVICE);
		return -ENOMEM;
	}
	error = submit(channel, copy, size);
	if (!error)
		return 0;
	dma_unmap_single(dma, copy->from, size, DMA_TO_DEVICE);
	dma_unmap_single(dma, copy->to, size, DMA_FROM_DEVICE);
	return error;
}

/* Nothing is unmapped that the device may still use. */
static int finish(struct device *dma, struct copy *copy, size_t size)
{
	if (!wait_for_completion_timeout(&copy->done, PATIENCE))
		return -ETIMEDOUT;
	dma_unmap_single(dma, copy->from, size, DMA_TO_DEVICE);
	dma_unmap_single(dma, copy->to, size, DMA_FROM_DEVICE);
	if (copy->result != DMA_TRANS_NOERROR)
		return -EIO;
	given = crc32_le(given, copy->source, size);
	taken = crc32_le(taken, copy->target, size);
	copied++;
	bytes += size;
	return 0;
}

static int copy_together(struct dma_chan *channel, struct device *dma, struct copy *copies, size_t size)
{
	int error = 0, started, i;

	for (i = 0; i < TOGETHER; i++)
		swap(copies[i].source, copies[i].target);
	for (started = 0; started < TOGETHER; started++) {
		error = start(channel, dma, &copies[started], size);
		if (error)
			break;
	}
	dma_async_issue_pending(channel);
	for (i = 0; i < started; i++) {
		int failure = finish(dma, &copies[i], size);

		error = error ?: failure;
	}
	return error;
}

/* Says what the device said, where the source was, and whether anything came: the address is the last one that was mapped, so nobody else's. */
static int fault(struct dma_chan *channel, struct device *dma, struct copy *copy, size_t size)
{
	int error;

	memset(copy->target, POISON, size);
	copy->to = dma_map_single(dma, copy->target, size, DMA_FROM_DEVICE);
	copy->from = dma_map_single(dma, copy->source, size, DMA_TO_DEVICE);
	dma_unmap_single(dma, copy->from, size, DMA_TO_DEVICE);
	error = submit(channel, copy, size);
	if (error)
		return error;
	dma_async_issue_pending(channel);
	if (!wait_for_completion_timeout(&copy->done, PATIENCE))
		return -ETIMEDOUT;
	dma_unmap_single(dma, copy->to, size, DMA_FROM_DEVICE);
	pr_info("kernel_faulted %d 0x%llx %s\n", copy->result, (u64)copy->from & PAGE_MASK,
		memchr_inv(copy->target, POISON, size) ? "written" : "untouched");
	return 0;
}

/* Memory that a device may still write to is not given back. */
static void release(struct copy *copies, int error)
{
	int i;

	for (i = 0; i < TOGETHER && error != -ETIMEDOUT; i++) {
		kfree(copies[i].source);
		kfree(copies[i].target);
	}
}

static bool is_wanted(struct dma_chan *channel, void *unused)
{
	return !strcmp(dev_name(channel->device->dev), device);
}

static int __init copies_init(void)
{
	static struct copy copies[TOGETHER];
	struct dma_chan *channel;
	dma_cap_mask_t mask;
	int error = 0, i;

	dma_cap_zero(mask);
	dma_cap_set(DMA_MEMCPY, mask);
	channel = dma_request_channel(mask, is_wanted, NULL);
	if (!channel)
		return -ENODEV;
	for (i = 0; i < TOGETHER; i++) {
		copies[i].source = kmalloc(sizes[ARRAY_SIZE(sizes) - 1], GFP_KERNEL);
		copies[i].target = kmalloc(sizes[ARRAY_SIZE(sizes) - 1], GFP_KERNEL);
		if (!copies[i].source || !copies[i].target)
			error = -ENOMEM;
	}
	for (i = 0; i < ROUNDS * ARRAY_SIZE(sizes) && !error; i++)
		error = copy_together(channel, dmaengine_get_dma_device(channel), copies, sizes[i / ROUNDS]);
	pr_info("kernel_copied %d %u %zu %08x %08x\n", error, copied, bytes, given, taken);
	if (faults && !error)
		error = fault(channel, dmaengine_get_dma_device(channel), &copies[0], 64);
	release(copies, error);
	dma_release_channel(channel);
	return error;
}

static void __exit copies_exit(void)
{
}

module_init(copies_init);
module_exit(copies_exit);
MODULE_DESCRIPTION("Has a DMA channel copy memory");
MODULE_LICENSE("Dual MIT/GPL");
