// The module that stands in for an instruction, as an ordinary program: the assembler's own encodings, and what is none.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missingCompiler } from '@remora/tools/live';
import test from 'ava';
import { runSync } from '../rig/processes.js';

const SOURCE = fileURLToPath(new URL('../../../tools/live/modules/movdir64b.c', import.meta.url));
const HEADERS = ['linux/io.h', 'linux/kdebug.h', 'linux/module.h', 'linux/ptrace.h', 'linux/uaccess.h', 'asm/trapnr.h'];

/** What of the kernel the module uses. Memory that it may read is below 1 GiB here. */
const KERNEL = `
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
typedef uint8_t u8; typedef int8_t s8; typedef int32_t s32; typedef uint64_t u64;
#define __iomem
#define __init
#define __exit
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define module_param(...)
#define MODULE_PARM_DESC(...)
#define MODULE_DESCRIPTION(...)
#define MODULE_LICENSE(...)
#define module_init(f) int (*const init_)(void) = f;
#define module_exit(f) void (*const exit_)(void) = f;
enum { DIE_TRAP = 6, DIE_OTHER = 1, X86_TRAP_UD = 6, NOTIFY_DONE = 0, NOTIFY_STOP = 0x8001 };
struct pt_regs { unsigned long ax, cx, dx, bx, sp, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15, ip; bool user; };
struct die_args { struct pt_regs *regs; int trapnr; };
struct notifier_block { int (*notifier_call)(struct notifier_block *, unsigned long, void *); int priority; };
static int register_die_notifier(struct notifier_block *b) { return b == 0; }
static int unregister_die_notifier(struct notifier_block *b) { return b == 0; }
static bool user_mode(const struct pt_regs *r) { return r->user; }
static long copy_from_kernel_nofault(void *to, const void *from, unsigned long n)
{
	if ((unsigned long)from > 0x40000000)
		return -14;
	memcpy(to, from, n);
	return 0;
}
static void writeq(u64 value, void *to) { memcpy(to, &value, sizeof(value)); }
`;

/** Instructions, and the registers from which their sources and targets come. */
const CASES: readonly (readonly [instruction: string, setup: string])[] = [
  ['movdir64b (%rdx), %rax', 'r.dx = S; r.ax = D;'],
  ['movdir64b 16(%r13), %r9', 'r.r13 = S - 16; r.r9 = D;'],
  ['movdir64b -0x1000(%rsp,%rcx,8), %rdi', 'r.sp = S; r.cx = 0x200; r.di = D;'],
  ['movdir64b block(%rip), %r15', 'r.r15 = D;'],
  ['movdir64b (,%r12,4), %rbp', 'r.r12 = S / 4; r.bp = D;'],
  ['movdir64b 64(%rbx,%r14,1), %rsi', 'r.bx = S - 164; r.r14 = 100; r.si = D;'],
  ['movdir64b (%rbp), %rax', 'r.bp = S; r.ax = D;'],
  ['movdir64b (%r13), %r14', 'r.r13 = S; r.r14 = D;'],
  ['movdir64b (%r12), %rbx', 'r.r12 = S; r.bx = D;'],
  ['movdir64b (%r8,%r9,2), %r10', 'r.r8 = S - 32; r.r9 = 16; r.r10 = D;'],
  ['movdir64b block, %rax', 'r.ax = D;'],
  ['movdir64b (%rsp), %r11', 'r.sp = S; r.r11 = D;'],
];
/** Nothing of the module's: other instructions, a register as the source, a source that cannot be read. */
const OTHERS: readonly (readonly [instruction: string, setup: string])[] = [
  ['ud2', ''],
  ['movdiri %rax, (%rdx)', 'r.dx = D; r.ax = 1;'],
  ['.byte 0x66, 0x0f, 0x38, 0xf8, 0xc2', 'r.dx = S; r.ax = D;'],
  ['.byte 0x67, 0x66, 0x0f, 0x38, 0xf8, 0x02', 'r.dx = S; r.ax = D;'],
  ['movdir64b (%rdx), %rax', 'r.dx = 0x7000000000000000; r.ax = D;'],
];

const all = [...CASES, ...OTHERS];
const PROGRAM = `
#include ${JSON.stringify(SOURCE)}
u8 block[64] __attribute__((aligned(64)));
static u8 target[64] __attribute__((aligned(64)));
#define S ((unsigned long)block)
#define D ((unsigned long)target)
__asm__(".text\\n" ${all.map(([code], at) => `"from${at}: ${code}\\nto${at}:\\n"`).join(' ')} ".skip 16, 0x90\\n");
${all.map((_, at) => `extern u8 from${at}[], to${at}[];`).join('\n')}
static int run(struct pt_regs *r, unsigned long event, int trap)
{
	struct die_args die = { r, trap };
	int i;
	for (i = 0; i < 64; i++)
		block[i] = i * 7 + executed * 13 + 1;
	memset(target, 0, 64);
	return notifier.notifier_call(&notifier, event, &die);
}
static void tell(const char *what, int at, struct pt_regs *r, u8 *from, u8 *to, int result)
{
	const char *ip = r->ip == (unsigned long)to ? "behind" : r->ip == (unsigned long)from ? "there" : "elsewhere";
	const char *data = memcmp(block, target, 64) ? "nothing" : "all";
	printf("%s %d %s %s %s\\n", what, at, result == NOTIFY_STOP ? "stop" : "done", ip, data);
}
int main(void)
{
${all
  .map(
    ([, setup], at) =>
      `	{ struct pt_regs r = { .ip = (unsigned long)from${at} }; ${setup} tell("case", ${at}, &r, from${at}, to${at}, run(&r, DIE_TRAP, X86_TRAP_UD)); }`,
  )
  .join('\n')}
	struct pt_regs r = { .ip = (unsigned long)from0, .dx = S, .ax = D };
	tell("other trap", 0, &r, from0, to0, run(&r, DIE_TRAP, 13));
	tell("other event", 0, &r, from0, to0, run(&r, DIE_OTHER, X86_TRAP_UD));
	r.user = true;
	tell("user", 0, &r, from0, to0, run(&r, DIE_TRAP, X86_TRAP_UD));
	printf("executed %u\\n", executed);
	return 0;
}
`;

const missing = missingCompiler() ?? (process.arch === 'x64' ? undefined : 'this is no x86-64');
const compiled = missing === undefined ? test : test.skip;

compiled(
  `what the assembler makes of MOVDIR64B is executed, and nothing else${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  t => {
    const folder = mkdtempSync(join(tmpdir(), 'remora-movdir64b-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    for (const header of HEADERS) {
      const path = join(folder, header);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, '');
    }
    const [kernel, source, program] = ['kernel.h', 'main.c', 'main'].map(name => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(kernel, KERNEL);
    writeFileSync(source, PROGRAM);
    // Addresses that fit 31 bits.
    const flags = ['-no-pie', '-static', '-w', '-I', folder, '-include', kernel];
    const { status, stderr } = runSync('gcc', [...flags, '-o', program, source]);
    t.is(status, 0, stderr);
    const said = runSync(program, []).stdout.trim().split('\n');
    t.deepEqual(said, [
      ...CASES.map((_, at) => `case ${at} stop behind all`),
      ...OTHERS.map((_, at) => `case ${CASES.length + at} done there nothing`),
      'other trap 0 done there nothing',
      'other event 0 done there nothing',
      'user 0 done there nothing',
      `executed ${CASES.length}`,
    ]);
  },
);
