// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A kernel module for live guests on a processor that has no MOVDIR64B and is made to say that it has: executes the instruction where the
 * kernel itself comes upon it. The kernel's drivers stay as they are. (Intel SDM volume 2: MOVDIR64B, and 2.1 on the encoding.)
 */
#include <linux/io.h>
#include <linux/kdebug.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/uaccess.h>
#include <asm/trapnr.h>

#define BYTES 64
#define LONGEST 15

static unsigned int executed;
module_param(executed, uint, 0444);
MODULE_PARM_DESC(executed, "how often the instruction has been executed");

/* By number, as ModRM, SIB and REX give it. */
static unsigned long value_of(const struct pt_regs *regs, unsigned int number)
{
	const unsigned long values[] = {
		regs->ax, regs->cx, regs->dx,  regs->bx,  regs->sp,  regs->bp,  regs->si,  regs->di,
		regs->r8, regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15,
	};

	return values[number];
}

struct instruction {
	unsigned long source;
	unsigned long destination;
	unsigned int length;
};

/* 66 [REX] 0F 38 F8 /r with a source in memory. False for anything else, and for a source that needs a prefix more. */
static bool decode(const u8 *code, const struct pt_regs *regs, struct instruction *out)
{
	unsigned int at = 0, rex = 0, mode, base;
	unsigned long address = 0;
	u8 modrm;

	if (code[at++] != 0x66)
		return false;
	if ((code[at] & 0xf0) == 0x40)
		rex = code[at++];
	if (code[at] != 0x0f || code[at + 1] != 0x38 || code[at + 2] != 0xf8)
		return false;
	at += 3;
	modrm = code[at++];
	mode = modrm >> 6;
	base = modrm & 7;
	if (mode == 3)
		return false;
	out->destination = value_of(regs, (modrm >> 3 & 7) | (rex & 4) << 1);
	if (mode == 0 && base == 5) {
		/* Relative to the instruction that follows. */
		out->length = at + 4;
		out->source = regs->ip + out->length + *(const s32 *)(code + at);
		return true;
	}
	if (base == 4) {
		u8 sib = code[at++];
		unsigned int index = (sib >> 3 & 7) | (rex & 2) << 2;

		base = sib & 7;
		if (index != 4)
			address = value_of(regs, index) << (sib >> 6);
	}
	if (mode == 0 && base == 5) {
		address += *(const s32 *)(code + at);
		at += 4;
	} else {
		address += value_of(regs, base | (rex & 1) << 3);
	}
	if (mode == 1)
		address += (s8)code[at++];
	if (mode == 2) {
		address += *(const s32 *)(code + at);
		at += 4;
	}
	out->source = address;
	out->length = at;
	return true;
}

static int on_die(struct notifier_block *block, unsigned long event, void *data)
{
	const struct die_args *die = data;
	struct pt_regs *regs = die->regs;
	struct instruction instruction;
	u8 code[LONGEST + 1] = {};
	u64 words[BYTES / sizeof(u64)];
	unsigned int i;

	if (event != DIE_TRAP || die->trapnr != X86_TRAP_UD || user_mode(regs))
		return NOTIFY_DONE;
	if (copy_from_kernel_nofault(code, (void *)regs->ip, LONGEST) || !decode(code, regs, &instruction))
		return NOTIFY_DONE;
	if (copy_from_kernel_nofault(words, (void *)instruction.source, BYTES))
		return NOTIFY_DONE;
	for (i = 0; i < ARRAY_SIZE(words); i++)
		writeq(words[i], (void __iomem *)(instruction.destination + i * sizeof(u64)));
	regs->ip += instruction.length;
	executed++;
	return NOTIFY_STOP;
}

static struct notifier_block notifier = { .notifier_call = on_die, .priority = INT_MAX };

static int __init movdir64b_init(void)
{
	return register_die_notifier(&notifier);
}

static void __exit movdir64b_exit(void)
{
	unregister_die_notifier(&notifier);
}

module_init(movdir64b_init);
module_exit(movdir64b_exit);
MODULE_DESCRIPTION("Executes MOVDIR64B for a processor without it");
MODULE_LICENSE("Dual MIT/GPL");
