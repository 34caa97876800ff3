import type { Fault } from './fault.ts'
import { machineFaults } from './machine.ts'
import { orchestratorFaults } from './orchestrator.ts'
import { workloadFaults } from './workloads.ts'

export const allFaults: readonly Fault[] = [...orchestratorFaults, ...workloadFaults, ...machineFaults]
