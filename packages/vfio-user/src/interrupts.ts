/** Interrupt messages that reached the board, on to the client of the function that sent them. */
import { logger, rateLimited } from '@remora/core';
import { type MsiLog, PLATFORM_REQUESTER, type PciFunction } from '@remora/pci';
import type { DeviceServer } from './device-server.js';

const log = rateLimited(logger('remora:vfio-user'), 20);

export interface InterruptRoute {
  /** The function that sends; 'platform': an IOMMU's own messages. */
  readonly from: PciFunction | 'platform';
  readonly to: DeviceServer;
}

/** Sends each message to the server of its sender, until disposed of. Messages of nobody here, or to nobody there, are lost. */
export function routeInterrupts(messages: MsiLog, routes: readonly InterruptRoute[]): Disposable {
  return messages.listen(({ requesterId, address, data }) => {
    const route = routes.find(({ from }) => requesterOf(from) === requesterId);
    const sent = route?.to.message(Math.floor(address / 2 ** 32), address >>> 0, data) ?? false;
    if (!sent) log.warn('a message of requester %d is lost: %o', requesterId, { address, data });
  });
}

/** As the platform sees it now: undefined for a function that is not plugged. */
function requesterOf(from: InterruptRoute['from']): number | undefined {
  if (from === 'platform') return PLATFORM_REQUESTER;
  return from.bus === undefined ? undefined : from.dma.requesterId;
}
