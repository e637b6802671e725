"""The audit: everything that a study claims, derived again from its objects and from nothing else.

It runs offline and believes no configuration: whom to believe stands in the study's base commit, or is named by whoever
audits. What does not follow is a Finding, never an error, so that one forgery hides no other.
"""

from gitresearch.audit.finding import Finding
from gitresearch.audit.whole import Report, audit

__all__ = ["Finding", "Report", "audit"]
