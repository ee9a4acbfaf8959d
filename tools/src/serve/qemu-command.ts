/** The command line with which a QEMU takes served devices. */

export interface QemuDevice {
  readonly socket: string;
  /** Where it is plugged here: it must be there as well, as requester ids are the same then. */
  readonly devfn: number;
}

const MEMORY = '512M';

/**
 * Lines for a shell, the first of which is the program. `memory`: the file that the guest's memory is in; true: QEMU passes a descriptor of
 * it; false: a guest has memory of its own, which nobody here reaches but by messages.
 */
export function qemuCommand(devices: readonly QemuDevice[], memory: string | boolean): string[] {
  const ram =
    memory === false
      ? [`-machine q35 -m ${MEMORY}`]
      : [`-machine q35,memory-backend=ram -m ${MEMORY}`, `-object ${quoted(backend(memory))}`];
  const served = devices.map(({ socket, devfn }) => {
    const addr = `${(devfn >>> 3).toString(16)}.${devfn & 7}`;
    return `-device ${quoted(JSON.stringify({ driver: 'vfio-user-pci', addr, socket: { type: 'unix', path: socket } }))}`;
  });
  return ['qemu-system-x86_64', ...ram, ...served];
}

function backend(memory: string | true): string {
  if (memory === true) return `memory-backend-memfd,id=ram,size=${MEMORY},share=on`;
  return `memory-backend-file,id=ram,size=${MEMORY},share=on,mem-path=${memory.replaceAll(',', ',,')}`;
}

/** As one word of a shell's. */
function quoted(text: string): string {
  return /^[\w,=./:-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
