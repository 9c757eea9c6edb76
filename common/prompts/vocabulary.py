"""Words of chest reports, by what they do in a sentence. A word that stands in no list is unreadable.

What counts as a *finding* is what a reader could outline on the image of a lung or its pleura: opacity,
consolidation, infiltrate, atelectasis, effusion, nodule, mass, granuloma (calcified ones too), scar, pleural
thickening, a blunted angle, oedema, pneumothorax. A *vague* finding ("abnormality", "markings") counts only
where the sentence gives it a place in a lung. *Elsewhere* is what lies outside the lungs or is none of their
lesions: heart, mediastinum and its nodes, vessels, bones, abdomen, devices, lung volume, emphysema; it names
no zone. *Fill* says nothing of place, side, finding or denial; most of it are the words that occur more than
once in the reports of Indiana University.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# lesions of lung and pleura
FINDINGS = _words("""
abscess aspiration atelectases atelectasis atelectatic blunted blunting bronchiectasis bronchiolitis
bronchopneumonia carcinoma cavitary cavitation cavity collapse collapsed consolidated consolidating
consolidation consolidations consolidative contusion cyst cystic densities density edema effusion
effusions empyema fibronodular fibrosis fibrotic fluid ggo granuloma granulomas granulomata groundglass
haemothorax haziness hazy hemopneumothorax hemorrhage hemothorax hydropneumothorax infarct infarction
infected infection infections infiltrate infiltrates infiltration infiltrative lesion lesions loculated
loculation malignancy mass masses masslike metastases metastasis metastatic neoplasm nodular nodularity
nodule nodules oedema opacification opacifications opacified opacities opacity plaque plaques pleurisy
pneumonia pneumonias pneumonitis pneumothoraces pneumothorax radiodensity reticular reticulation
reticulonodular scar scarring scars thickened thickening tuberculosis tumor tumors
""")  # fmt: skip

# findings only where they have a place in a lung
VAGUE = _words("""
abnormalities abnormality airspace asymmetry calcification calcifications change changes congestion
disease engorgement finding findings foci focus fullness granulomatous hypoventilation inflammation
inflammatory interstitial involvement irregularities irregularity lines loss markings process processes
prominence prominent shadow shadows volume
""")  # fmt: skip

# organs, bones, devices, and conditions that are no lesion
ELSEWHERE = _words("""
abdomen abdominal acromioclavicular adenopathy aeration aicd anchor anchors aneurysm aneurysmal ankle
aorta aortic arm arterial arteries artery arthritic arthritides arthritis atherosclerosis
atherosclerotic atria atrial atrium axilla axillary azygos back bone bones bony bowel brain breast
breasts bruise bruising bulla bullae bullous cardiac cardio cardiomediastinal cardiomegaly cardiophrenic
cardiothoracic carina catheter catheters cavoatrial cervical chf cholecystectomy clavicle clavicular
clip clips colon colonic contour contours copd coronary costovertebral decubitus defibrillator
defibrillators deformities deformity degenerative device dextroscoliosis diaphragm diaphragmatic
diaphragms disc dislocation drain drainage drains ectasia elbow emphysema emphysematous endotracheal
endplate enteric epicardial esophageal esophagus ett eventration extremities extremity foot fracture
fractured fractures gallbladder gastric gastrostomy generator glenohumeral goiter haematoma hand
hardware head heart hemidiaphragm hemidiaphragms hernia hernias hiatal hip humeral humerus hyperexpanded
hyperexpansion hyperinflated hyperinflation hyperlucency hyperlucent hypoinflated hypoinflation icd
implant implants injury joint joints jugular kidney kidneys knee kyphosis lead leads leg levoscoliosis
line liver lobectomy lucencies lucency lumbar lumpectomy lymph lymphadenopathy mastectomy mediastinal
mediastinum mediport muscle mva nasogastric neck ng node nodes numbness osseous osteopenia osteophyte
osteophytes osteosarcoma pacemaker pacemakers pacer pacing pain paraspinal pectus pericardial picc
pneumomediastinum pneumonectomy pneumoperitoneum port ports postoperative postsurgical prosthesis
quadrant renal resection retrocrural rib ribs sarcoma scapula scapular scoliosis shoulder silhouette
silhouettes skeletal skin soreness spinal spine spleen splenic spondylosis stent stents sternal
sternotomy sternum stimulator stomach subclavian subdiaphragmatic surgery surgical suture sutures svc
swelling tenderness thoracolumbar thoracotomy thyroid thyroidectomy tingling tortuosity tortuous trachea
tracheal tracheostomy transplant trauma tube tubes tubing valve vascular vascularity vasculature vein
venous ventricle ventricles ventricular vertebra vertebrae vertebral vertebroplasty volumes weakness
wire wires wound
""")  # fmt: skip

# everything else that reports say
FILL = _words("""
a abd abnormal about above abuse accentuated accessory accident accounting acetabulum achalasia acinar
acknowledged across active acuity acute addition additional additionally adequately adjacent admit
admitted advanced aerated affecting after again against age ago air airway airways alignment all alleged
allergic allogeneic allowing along already also altered alternatively alveolar am aml among amount
amputation an anatomic anatomical anemia anesthesia annular another anterior anteriorly anticipated anxiety any ap apnea
apparent appear appearance appearing appears appendage appreciable appreciated approach appropriate
approximately approximating are area areas arising around arrest arthroplasty as asbestos ascending
aspect aspects aspergilloma assault assess assessment assist assisted associated asthma asymmetric
asymmetrical asymptomatic at attack attacks attenuation atypical available b background bacterial
bandlike bariatric based be been before beginning behind being below beneath benefit benign better
between beyond biopsy biventricular bladder bleed bleeding blood bloody blunt blurry bmt bochdalek
bodies body bodyaches borderline brachiocephalic breath breathing bridging broken bronchi bronchial
bronchitic bronchitis bronchovascular bullet by bypass ca cabg calcaneal calcific calcified calcium
calculi caliber called callus can cancer cannot capping cardia cardiomyopathy cardiopulmonary care
carinatum carotid cartilages case cassettes causing caval cavitating cell centimeter centimeters central
centrally certainty certified characterised characteristic characterization characterize characterized
cheek chemotherapy chest chills chin choking chondral chronic chronically chronicity cigarette circular
circumscribed cirrhosis clavicles clearing clearly clinical clinically cll closure clot cm coalescent
coarse coarsened code collecting collection collections collision colostomy combination comments
comminuted common compared comparison comparisons compartment compatible complaining complains
complaints complete completely complicating complication component compressive concern concerning
conditions configuration confirm confirmation confluence confluent confusion congenital congestive
consider consideration considerations considered considering consistent consists conspicuous contain
containing continued contrast convex convexity convincing coronal coronavirus correct correlate
correlation corresponding corresponds cortex cortical corticated costicartilage costochondral coughing
could couple courses coursing covid cp crackles critical cross crowded crowding cryptogenic ct cuffing
currently curvature curvilinear cutaneous cxr date dated dating day days decompensated decrease
decreased decreasing dedicated deep define defined definite definitely definitively degenerated
degeneration degraded degree dehydration demineralization demonstrate demonstrated demonstrates
demonstrating demonstration dense densely denser department dependent depression descending described
desired destruction destructive detail detailed determine developed developing development deviation
dextrocardia dextrocurvature diabetes diagnosed diagnosis dialysis diameter diarrhea did differences
differential difficult difficulty diffuse diffusely dilated dimension diminished direct discoid
discordant discrete discuss discussed dish dislocations displaced displacement disrupted disruption
dissection distal distended distention distress distribution dizziness dizzy dka do document documented
does doing dominant dr dual duct due during dvt dx dysphasia dyspnea dystrophy ear earlier early eating
ecf ectatic either ekg electronic elements elevated elevation elongation embolism embolization
encephalopathy end energy engorged enhanced enlarged enlargement enlarging ensure entering entire
entirely eosinophilic epigastric epigastrium epiglottis episode erect erosions esophagectomy
esophagogastric especially essentially establish etiology etoh evaluate evaluated evaluation evidence
evidenced evident evolving exacerbation exact exaggerated exaggeration exam examination examinations
exams excavatum exertion exertional expanded expansile expansion expected expiratory exposure extending
extensive extent external extremely eye face facility factors failure faint falling fallot fat fatigue
favored favoring features feeding feel feeling feels feet female femoral femur fevers few fibrillation
field fields fifth filled film films fine first fissural fissure fissures fixation flank flattened
flattening flowing fluffy fluoroscopy flutter focal fold follow followed following followup for forearm
foreign formation formations found fourth fragment fragments free frequent from frontal fully fungal
further fusion fx gastroesophageal generalized germ given gland glass glassy glenoid globular grade
graft grafting great greater greatest gross grossly ground growing gunshot habitus had has have having
he headache healed healing heartbeat heavily helpful hematemesis hematoma hemithoraces hemithorax
hemodialysis hemoptysis hepatic hepatitis hepatocellular her heterogeneous hiatus highly hips his
histoplasmoma histoplasmosis hiv hodgkin home homogeneous horizontal hospice hour hours how htn
hyperaerated hyperdense hyperostosis hypertension hypertensive hypotension hypoventilated hypoxemia
hypoxia i identified identify idiopathic ill image imaged images imaging immediately immigrant
immunosuppression implantable implantation impression improved improvement improving in inability
incidental incidentally include included includes including incompletely increase increased increasing
indeterminate indicate indicated indicating indistinct infectious infective inferiorly inflated
informative infracarinal inguinal inhalation initiation inj injection injuries inlet innominate
innumerable inserted inside inspiration inspiratory interface interim intermittent intermittently
internal interposition interpretation interspace interstitium interval into intra intraperitoneal
intrapulmonary intrathoracic intravenous involved involving iritis irregular is it its ivc jaw junction
kicked knees known kub kyphotic lab ladder laparoscopic large largely larger largest laryngeal last lat
lateral laterally layering less lesser leukemia leukocytosis level levels levocurvature lightheaded
lightheadedness like likely limit limited limits linear lipoma liters living lobar lobular lobulated
lobule localize localized located location long look loops lordotic lucent lumbosacral lumen lymphoid
lymphoma mainly maintained male malignant mammogram man manifestations margin marginal margination
margins marked markedly markers marrow massive material may maybe me measure measures measuring medial
medially medical medication medicine meds melanoma meniscus mental message metacarpal midabdomen midback
midfoot midline midsternal midthoracic might mild mildly millimeter millimeters minimal minimally mitral
mixed mm moderate moderately monitor month months morbid morbidly more mortise most mostly motion moved
mri multifocal multilevel multilobar multiple murmur muscles muscular must mvc my mycobacterial myeloma
myocardial narrow narrowed narrowing nasal nausea near necrotic necrotizing needed neoplastic nerve
neurostimulator new newer newly nightsweats non noncalcified noncontrast nondisplaced nonemergent
nonenlarged nonobstructive nonproductive nonsclerotic nonsmoker nonspecific nose notable notably note
noted notification notified now number numerous obese obesity oblique obliquely obliteration oblong
obscuration obscure obscured obscures obscuring observer obstruction obstructive obtain obtained obvious
occasional occluder occupying oedematous of old on once one only onset onto op opaque open opportunity
ordered ordering organ organizing oriented origin orthopedic osseus osteoarthritis osteodystrophy
osteomyelitis osteopenic osteoporosis other our out outflow outside outward oval ovarian over overall
overlap overlapping overlay overlie overlies overload overlying overt ovoid oxygen pa pads palpitation
palpitations pancreatic pancreatitis paralysis paratracheal parenchyma parenchymal part partial
partially particularly partly parts passed passive patchy patellofemoral pathologic pathology patient
patients pattern pelvic pelvis per performance performed perhaps peribronchial peripheral peripherally
periphery persist persistent persistently persists physical physician pic picture piercing piriform
place placed placement platelike please pleura pleural pleuritic pleuroparenchymal pm pna pod
polysubstance poorly portable portion portions position positional positioned positioning positive
possibility possible possibly posterior posteriorly posterolateral postop postpartum postradiation
posttraumatic potential ppd ppm pre predominant predominantly pregnancy pregnant preop preoperative
preprocedure presence present presenting presents pressure presyncope pretransplant prev prevertebral
primarily primary primordial probable probably procedure production productive progression progressive
projected projectile projecting projection projectional projects prolapse pronounced prostate
prostatectomy prostheses prosthetic proximal pt pulmonary pulmonic punctate px quality question
questionable questioned questions quite radiates radiating radiation radiodense radiograph radiographic
radiographically radiographs radiography radiologist radiopaque raise rales rather ratio ray re reaction
reactive readily receipt recent recently recognised recommend recommendations recommended rectal rectum
recurrence recurrent redemonstrated redemonstration redistribution reduced reduction reflect reflecting
reflects reflux regarding region regions related relates relative relatively remain remainder remaining
remains remarkable remote removed repair repeat replacement report reported repositioning represent
representing represents require requirement reside residual residuals resolve resolving result results
retained retraction retrolisthesis retrosternal reveal revealing reveals reversal review revision
rheumatoid rhonchi ring room rotated rotation rotator rotatory round rounded routine sacroiliac sacrum
sagittal same sarcoid sarcoidosis sars satisfactory saturation scan scans scaphoid scattered sched
scheduled sclerosis sclerotic scoliotic screen screening screw second secondary section sectional see seen
segment segmental segments seizure semi senescent sensation sent separation septal sequela sequelae
series setting several severe severely shall shape shaped she shielded shift shifted short shortest
shortness should show showing shows shrinking shunt side sided significance significant significantly
silhouetting similar since single sinus six sixth size sized slight slightly slurred small smaller
smoking smooth sob soft solid solitary some something somewhat sore sounds space spaces sparing spasms
specifically specified speech spiculated spurring sputum st stab stabbing stability stable stage started
starting stated states stenosis steps stigmata stool strandy streakiness streaky stripe strongly
structure structures studies study subacute subcarinal subchondral subcutaneous subluxation suboptimal
subphrenic subpleural subsegmental substantial substernal subtle suction suggest suggested suggesting
suggestion suggestive suggests superficial superimposed superiorly supine surface surrounding suspect
suspected suspicion suspicious swallowing sweats symmetric symmetrical symmetrically symptoms syncopal
syncope syndesmophytes syndrome synovial t tachycardia taking tapering tb technical technically
technique telephone tendinitis tenting term terminates terminating test testes testicular testis
tetralogy th than thanks that the their them therapy there these they thickness thin third this
thoracentesis thoracic thorax those thought three throat through throughout tightness time tiny tip tips
tissue tissues tnf to tobacco today tof tonight too torturous total toward towards trace tracking tract
traction transposition transverse trapping traumatic treatment triangular tricompartmental true
tuberculous tubular tunneled two type typical u unable uncalcified uncertain unchanged unclear under
underinflated underlying unfolded unfolding unifocal uniformly unknown unlikely unresponsive until up
upon upright upward ureteral urgency us use useful uti vagal vague vasculatures vehicle ventral veriphy
vertigo very via view viewer views viral visible vision visualised visualized vomiting vp wall warranted was we
wedge wedging week weeks well were what wheelchair wheeze wheezes wheezing when where whether while who
whom whose why widened widening width will withdrawal within woman workup worrisome worse worsened
worsening would wt x xray xxxx year years yesterday yof you your yr yrs zone
""")  # fmt: skip
