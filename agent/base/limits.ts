/**
 * Every maximum of the project with its reason. A number without a unit in its name is a count.
 * Owns the numbers. Does not know who enforces them.
 */

export const kibibyteBytes = 1024
export const mebibyteBytes = 1024 * 1024

/** NFSv3 file handle, RFC 1813 section 2.2.3 (NFS3_FHSIZE). */
export const NFS3_FHSIZE = 64
/** Linux NAME_MAX; FUSE_NAME_MAX is 1024 but NFS servers and local file systems stop at 255. */
export const fileNameBytesMax = 255
/** PATH_MAX including the final NUL; also the longest symlink we accept from a server. */
export const pathBytesMax = 4096
/** FUSE requests carry at most 256 pages (FUSE_MAX_MAX_PAGES before Linux 6.13), and 1 MiB is what NFS servers
 * offer. */
export const ioBytesMax = mebibyteBytes
/** Largest RPC record accepted: 1 MiB of payload plus headers and a generous margin for READDIRPLUS replies. */
export const recordBytesMax = 2 * mebibyteBytes
/** AUTH_SYS carries at most 16 auxiliary groups, RFC 5531 appendix A. */
export const authSysGroupsMax = 16
/** Of a caller's groups so many are kept: the effective one may be among them, and is not carried twice. */
export const callerGroupsMax = authSysGroupsMax + 1
/** Callers with different rights that a session tells apart at once: at most 800 bytes each, 3 MiB. */
export const credentialsMax = 4096
/**
 * The kernel prints a task's groups for up to 25 ms before the first can be read. So much of a session's time, at most,
 * is spent on that in a row, and a tenth of it on average; then others do not wait for it.
 */
export const slowStatusBurstMs = 50
/** Calls in flight on one connection; more wait in order. The kernel's slot table starts at 2 and grows to 65536;
 * servers throttle near 128. */
export const callsInFlightMax = 128
/**
 * Answers to calls that nobody waits for, on one connection, beyond one for each call sent there. Late and repeated
 * ones stay below that; a server that sends more only keeps us reading.
 */
export const unmatchedRepliesMax = 1024
/**
 * Of one open listing the places of so many entries are kept, 16 bytes each; of a longer one the last. Going back
 * further lists again from the start.
 */
export const listingEntriesMax = mebibyteBytes
/**
 * Places and pages of all listings of a session. 400 folders of 10,000 names are listed side by side in it; beyond that
 * those that were read longest ago are asked for again when they go on.
 */
export const listingsBytesMax = 64 * mebibyteBytes
/** What the server lets whom do, by object and user: some 300 bytes each, 20 MiB. Then it is asked again. */
export const accessAnswersMax = 65_536
/**
 * A walk that gives a tree to a group (`agent/fs/ownership`). Half of a connection's calls, so that programs have the
 * rest; eight listings find more objects than 64 changes can keep up with. Folders that wait have 1 KiB each; PATH_MAX
 * names nothing that is deeper than 2048.
 */
export const groupWalkLimits = { listings: 8, visits: 56, folders: 4096, depth: 2048 } as const
/** Unacknowledged and uncommitted bytes of one file, then writers wait. */
export const dirtyFileBytesMax = 48 * mebibyteBytes
/**
 * The same for a whole session. With the requests that the kernel has under way at most (`fuseBackgroundMax`, 1 MiB
 * each: writers waiting for memory hold a copy) and the 100 MiB of a working process this keeps a session under 256
 * MiB.
 */
export const dirtySessionBytesMax = 64 * mebibyteBytes
/**
 * Text of one file below /proc/PID of a caller in a user namespace: a container has some ten kilobytes of mounts. What
 * is longer is not read to its end, which takes a millisecond here.
 */
export const taskFileBytesMax = 256 * kibibyteBytes
/**
 * Copies of bytes whose writers wait for memory, a megabyte each: a quarter of what a session may have. Writers that
 * wait in person are as many as the pods have threads; those beyond get ENOMEM, which one program survives, the end of
 * the session none.
 */
export const waitingBytesMax = 512 * mebibyteBytes
/** Open files and folders of a session: some 100 MiB. Linux gives a whole system 9 million, a process a million. */
export const openHandlesMax = 262_144
/** Threads of a session: Node, V8 and our addon have eleven, on any number of CPUs. */
export const sessionTasksMax = 64
/**
 * Memory of a session, with its sockets and what the kernel has for it; one that needs more is ended, and mounted anew.
 * With all data that may be under way it needs 256 MiB (`dirtySessionBytesMax`); each file that the node's kernel
 * remembers adds 1.2 KiB (measured: 470 MiB after `ls -l` of 300,000), which `knownInodesMax` bounds. V8 takes half of
 * it as the most that its heap may have.
 */
export const sessionMemoryBytesMax = 2048 * mebibyteBytes
/**
 * Objects of a volume that the node's kernel may know before it is asked to forget some that nobody uses: with 1.2 KiB
 * each some 300 MiB, a third of what V8 may have.
 */
export const knownInodesMax = 262_144
/** What a session has once it has started, and some: 60 MiB were measured. */
export const sessionStartBytes = 96 * mebibyteBytes
/**
 * Requests nobody waits for in person (read-ahead, asynchronous direct I/O) that the kernel hands over at once; it
 * keeps more of them itself. Its own 12 would leave a network with latency mostly idle; 64 x 1 MiB is 640 MB/s at 100
 * ms.
 */
export const fuseBackgroundMax = 64
/**
 * Window of the kernel's read-ahead (bdi read_ahead_kb), the least and the most; `agent/nfs/read-ahead.ts` chooses. The
 * kernel asks for the next window when it begins to read one. More than needed makes a page fault somewhere in a mapped
 * file bring more than it is worth; two of the largest are what the kernel hands over at once (`fuseBackgroundMax`).
 */
export const readAheadBytesMin = 8 * mebibyteBytes
export const readAheadBytesMax = 32 * mebibyteBytes
/** kubelet waits two minutes for a CSI call; answering before that tells it more than its own deadline would. */
export const csiAnswerMs = 110_000
/** One host call (mount, umount, statfs) in a forked child. A healthy kernel needs microseconds. */
export const hostCallMs = 10_000
/** Host calls per server that may be stuck in D state before further ones are refused. */
export const stuckHostCallsMax = 4
/** A log file starts anew at this size and keeps one predecessor: nobody rotates on the nodes where Flex starts agents,
 * and 16 MiB a log fill no disk. */
export const logFileBytesMax = 8 * mebibyteBytes
/** HTTP connections held at once, of all peers and of one; then one goes that has waited longest for its request.
 * Scrapers need a few, and each connection costs some 20 KiB. */
export const httpConnectionsMax = 128
export const httpPeerConnectionsMax = 64
/**
 * Volumes of a node unless its operator says otherwise (`--max-volumes`), for the scheduler as well (NodeGetInfo). Each
 * may be a session of some 90 MiB at rest, which no pod's limit counts: 256 are more than a node of 110 pods uses, and
 * 23 GiB.
 */
export const volumesPerNodeMax = 256
/**
 * Inline volumes among them (`--ephemeral-max`): who may make pods decides how many there are, and each has its
 * session.
 */
export const ephemeralVolumesPerNodeMax = 32
/** A pod that needs more folders than this takes them by subPath from a few volumes. */
export const volumesPerPodMax = 64
export const ephemeralVolumesPerPodMax = 4
/** sockaddr_un.sun_path is 108 bytes including the NUL. */
export const unixSocketPathBytesMax = 107
/** A kubelet's configuration file, drop-in or argument file; real ones have a few kilobytes. */
export const kubeletFileBytesMax = mebibyteBytes
