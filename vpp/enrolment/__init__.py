"""Room enrolment: who is in and under which terms. Other rooms import from here only."""

from vpp.enrolment.csvfile import COLUMNS, Column, read_sites_csv, write_sites_csv
from vpp.enrolment.enrol import Enrolled, enrol, enrol_sites
from vpp.enrolment.forms import BatteryForm, ProgramForm, SiteForm, read_site_forms
from vpp.enrolment.peaks import raise_peaks
from vpp.enrolment.problems import EnrolmentRefused, Problem
from vpp.enrolment.programs import program_terms, set_program_terms
from vpp.enrolment.sites import ReserveChange, get_site, load_sites, reserve_changes, set_reserve
from vpp.enrolment.tariffs import DemandChargeForm, EnergyPeriodForm, TariffForm

__all__ = [
    "COLUMNS",
    "BatteryForm",
    "Column",
    "DemandChargeForm",
    "EnergyPeriodForm",
    "Enrolled",
    "EnrolmentRefused",
    "Problem",
    "ProgramForm",
    "ReserveChange",
    "SiteForm",
    "TariffForm",
    "enrol",
    "enrol_sites",
    "get_site",
    "load_sites",
    "program_terms",
    "raise_peaks",
    "read_site_forms",
    "read_sites_csv",
    "reserve_changes",
    "set_program_terms",
    "set_reserve",
    "write_sites_csv",
]
