// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A kernel module for live guests before Linux 6.5: gets PASIDs as drivers there do, until there are no more, gives them back, and gets one
 * again. Where the IOMMU has virtual commands, Linux's driver of the IOMMU asks it for each. What came of it goes to the kernel's log.
 */
#define pr_fmt(format) "remora: " format

#include <linux/ioasid.h>
#include <linux/module.h>

#define MOST 16
#define FIRST 1
#define LAST 0xfffff

static DECLARE_IOASID_SET(ours);

static int __init pasids_init(void)
{
	ioasid_t pasids[MOST];
	unsigned int count = 0, i;
	ioasid_t again;

	for (; count < MOST; count++) {
		pasids[count] = ioasid_alloc(&ours, FIRST, LAST, NULL);
		if (!pasid_valid(pasids[count]))
			break;
		pr_info("pasid_given %u\n", pasids[count]);
	}
	for (i = 0; i < count; i++)
		ioasid_free(pasids[i]);
	again = ioasid_alloc(&ours, FIRST, LAST, NULL);
	pr_info("pasid_again %u\n", again);
	return 0;
}

static void __exit pasids_exit(void)
{
}

module_init(pasids_init);
module_exit(pasids_exit);
MODULE_DESCRIPTION("Gets PASIDs, and gives them back");
MODULE_LICENSE("Dual MIT/GPL");
