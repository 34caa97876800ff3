import { readFile } from 'node:fs/promises'

/**
 * How often the kernel has killed for memory in this control group. A worker that ends by SIGKILL while this number grew
 * was out of memory; else somebody else killed it.
 */
export async function countMemoryKills(): Promise<number> {
  for (const path of await candidates()) {
    const text = await readFile(path, 'utf8').catch(() => undefined)
    const count = text === undefined ? undefined : /^oom_kill (\d+)$/m.exec(text)?.[1]
    if (count !== undefined) return Number(count)
  }
  return 0
}

/**
 * The files of control groups version 2 and 1. Inside a container the group's path as the host sees it does not exist,
 * and the container's own group is mounted at the top.
 */
async function candidates(): Promise<readonly string[]> {
  const groups = (await readFile('/proc/self/cgroup', 'utf8').catch(() => '')).split('\n')
  const unified = groups.find((line) => line.startsWith('0::'))?.slice(3) ?? '/'
  const memory = groups.find((line) => line.split(':')[1]?.split(',').includes('memory'))?.split(':')[2] ?? '/'
  return [
    `/sys/fs/cgroup/memory${memory}/memory.oom_control`,
    '/sys/fs/cgroup/memory/memory.oom_control',
    `/sys/fs/cgroup${unified}/memory.events`,
    '/sys/fs/cgroup/memory.events',
  ]
}
